#!/bin/bash
# A machine of its own with a real systemd, for tests: its root is an overlay of this one, and it has
# its own processes, network, cgroup, /dev, /run, /tmp and /var/tmp. Nothing that happens in it is
# seen outside. On a machine's own root `systemd --system` would empty its /tmp.
#
#   systemd-lab.sh run FOLDER REPOSITORY NODE    until it is powered off or ended by SIGTERM
#   systemd-lab.sh check                         whether that is possible here; stderr says why not
#
# Inside, FOLDER is /lab, which both sides see; REPOSITORY is /srv/cook-daemon, for reading, and NODE
# is `node`. There is a user lab (uid 7100) with a manager of its own: lab-user.service. The file
# FOLDER/pid has the pid of its pid 1, which nsenter(1) needs, and FOLDER/booted is there when systemd
# is up. LOWER: another root than /, as one that debootstrap has made.
set -eu

separated=(--mount --pid --fork --cgroup --uts --ipc --net --kill-child)

check() {
  unshare "${separated[@]}" bash -euc '
    mount --make-rprivate /
    mount -t tmpfs none /mnt
    mkdir /mnt/{upper,work,root,cgroup}
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/root
    mount -t cgroup2 none /mnt/cgroup'
}

# Its root, which outlives a reboot. Only this process and its children see these mounts.
make_root() {
  mount --make-rprivate /
  mount -t tmpfs none /mnt
  mkdir /mnt/{upper,work,root,cgroup}
  mount -t overlay -o "lowerdir=${LOWER:-/},upperdir=/mnt/upper,workdir=/mnt/work" none /mnt/root
  mount -t cgroup2 none /mnt/cgroup
  cd /mnt/root
  mkdir -p lab old srv/cook-daemon home usr/local/bin
  mount --bind "$folder" lab
  mount --bind "$repository" srv/cook-daemon
  mount -o remount,bind,ro srv/cook-daemon
  rm -f usr/local/bin/node
  touch usr/local/bin/node
  mount --bind "$node" usr/local/bin/node
  echo 'lab:x:7100:7100::/home/lab:/bin/bash' >>etc/passwd
  echo 'lab:x:7100:' >>etc/group
  echo 'lab-extra:x:7101:lab' >>etc/group
  install -d -m 0700 -o 7100 -g 7100 home/lab
  echo 5f1c0a4d6f5b4c0e9b5d8f2d7a3e6c10 >etc/machine-id
  echo lab >etc/hostname
  make_units
  cd /
}

make_units() {
  local unit units=etc/systemd/system
  rm -rf "${units:?}"/*
  mkdir -p "$units" etc/systemd/journald.conf.d
  printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/lab.conf
  # What is about hardware, about the kernel, or slow.
  for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-clean.timer systemd-sysctl.service \
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-udev-trigger.service systemd-modules-load.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-journal-flush.service systemd-remount-fs.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount systemd-logind.service; do
    ln -s /dev/null "$units/$unit"
  done
  # multi-user.target for units that are enabled; nothing of this machine is started by it.
  cat >"$units/lab.target" <<'UNIT'
[Unit]
Requires=basic.target
Wants=lab-booted.service systemd-journald.service multi-user.target
AllowIsolate=yes
UNIT
  printf '[Unit]\nDescription=Nothing of this machine\n' >"$units/multi-user.target"
  cat >"$units/lab-booted.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/touch /lab/booted
UNIT
  cat >"$units/lab-user.service" <<'UNIT'
[Service]
Type=notify
User=lab
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/7100
ExecStartPre=+/usr/bin/install -d -m 0700 -o lab -g lab /run/user/7100
ExecStart=/lib/systemd/systemd --user
KillMode=mixed
UNIT
}

# As pid 1: what is new at each boot, and then systemd.
boot() {
  local pid device
  # /proc still counts as outside does.
  read -r pid _ </proc/self/stat
  echo "$pid" >"$folder/pid"
  cd /mnt/root
  mount -t proc proc proc
  mount --bind proc/sys proc/sys
  mount -o remount,bind,ro proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 none sys/fs/cgroup
  mount -t tmpfs -o mode=755 none dev
  for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
  done
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
  mount -t tmpfs -o mode=1777 none dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  ln -s fd/0 dev/stdin
  ln -s fd/1 dev/stdout
  ln -s fd/2 dev/stderr
  mount -t tmpfs -o mode=755 none run
  mount -t tmpfs -o mode=1777 none tmp
  mount -t tmpfs -o mode=1777 none var/tmp
  mkdir -p run/lock
  pivot_root . old
  umount -l /old
  cd /
  ip link set lo up
  # The mark by which a run of the tests finds what it has left.
  exec env -i container=lab COOK_TEST_RUN="${COOK_TEST_RUN:-}" /lib/systemd/systemd --system \
    --unit=lab.target --log-target=journal --show-status=no
}

run() {
  local own machine status
  # Another one at the same time has units of the same names.
  own=/mnt/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/lab-$$
  mkdir "$own"
  machine=
  trap 'end "$own" "$machine"' EXIT
  trap 'exit 0' TERM
  while :; do
    rm -f "$folder/booted" "$folder/pid"
    (
      echo "$BASHPID" >"$own/cgroup.procs"
      exec setpriv --pdeathsig KILL unshare "${separated[@]}" bash "$self" boot "$folder"
    ) &
    machine=$!
    status=0
    wait "$machine" || status=$?
    # reboot(2): in a namespace, a reboot ends pid 1 by SIGHUP.
    [ "$status" -eq 129 ] || exit "$status"
  done
}

# With its pid 1 the kernel ends all of it; unshare waits for that.
end() {
  trap '' TERM
  if [ -n "$2" ] && kill -0 "$2" 2>/dev/null; then
    kill -KILL "$(cat "$folder/pid")" 2>/dev/null || kill -KILL "$2"
    wait "$2" 2>/dev/null || true
  fi
  find "$1" -depth -type d -exec rmdir {} +
}

self=$(realpath "$0")
command=$1 folder=${2:-} repository=${3:-} node=${4:-}
case $command in
  check) check ;;
  boot) boot ;;
  # Nobody else is to see its mounts.
  run) exec unshare --mount bash "$self" run-separated "$folder" "$repository" "$node" ;;
  run-separated)
    make_root
    run
    ;;
esac
