#!/bin/bash
# A host of a fleet, for tests: with a network, processes, a name, /run, /srv and /var/log of its own
# and sshd as its pid 1, which reaps what it has started. All else is this machine's.
#
#   unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc fleet-host.sh NAME CONFIG
set -eu
hostname "$1"
for folder in /run /srv /var/log; do mount -t tmpfs -o mode=755 none "$folder"; done
mkdir /run/sshd
# What root's shell does here is not done there, and may take seconds for each command.
if [ -e ~/.bashrc ]; then mount --bind /dev/null ~/.bashrc; fi
ip link set lo up
exec /usr/sbin/sshd -D -e -f "$2"
