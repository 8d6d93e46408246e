/** How the page of a proof looks: light and dark, on a phone, on a wide screen and on paper. */
export const style = `
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--text:#1c2330;--soft:#566070;--line:#dfe3e8;--old:#64748b;--on-old:#fff;--new:#bfeadd;--new-line:#0b7a5c;--on-new:#07372a;--bad:#b42318;--on-bad:#fff;--good-card:#e7f6f0;--bad-card:#fdecea}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#191f28;--text:#e8ebf0;--soft:#a4afbf;--line:#303947;--old:#8794a8;--on-old:#10151c;--new:#12493a;--new-line:#45d3a5;--on-new:#d8fff1;--bad:#ff8a7d;--on-bad:#2a0b07;--good-card:#10302a;--bad-card:#3a1b19}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:clamp(1.4rem,1rem + 2vw,2.1rem);line-height:1.25;margin:.4rem 0 0;text-wrap:balance}
h2{font-size:1.25rem;margin:2.8rem 0 .8rem}
h3{font-size:1.05rem;margin:0}
p{margin:.3rem 0 .8rem}
code,pre{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;margin:0;white-space:pre-wrap}
.soft{color:var(--soft)}
.verdict{border-radius:.8rem;padding:1.4rem 1.4rem 1.5rem;border:1px solid var(--new-line);background:var(--good-card)}
.verdict.lost{border-color:var(--bad);background:var(--bad-card)}
.word{font-weight:700;letter-spacing:.02em;color:var(--new-line);margin:0}
.lost .word{color:var(--bad)}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.7rem;margin:1rem 0 0}
.numbers div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.7rem .9rem;display:flex;flex-direction:column-reverse;justify-content:flex-end}
.numbers dt{color:var(--soft);font-size:.875rem;line-height:1.35}
.numbers dd{margin:0;font-size:1.6rem;font-weight:650;line-height:1.3;font-variant-numeric:tabular-nums}
.facts{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.35rem 1.2rem;margin:0}
.facts dt{color:var(--soft)}
.facts dd{margin:0;overflow-wrap:anywhere}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;margin:.4rem 0 1rem;padding:0;font-size:.9375rem}
.key svg{vertical-align:-.12em;margin-right:.45em}
.round{background:var(--card);border:1px solid var(--line);border-radius:.7rem;padding:1rem 1rem .6rem;margin:0 0 1rem;break-inside:avoid}
.round svg{display:block;overflow:visible}
.head{display:flex;flex-wrap:wrap;gap:.1rem .8rem;justify-content:space-between;align-items:baseline}
.state{font-weight:650;color:var(--new-line);white-space:nowrap}
.state.lost{color:var(--bad)}
svg text{font-size:12px;fill:var(--soft)}
svg .label{fill:var(--text)}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px}
svg .failed,svg .on-bad-text{fill:var(--bad);font-weight:650}
svg .old{fill:var(--old)}svg .new{fill:var(--new);stroke:var(--new-line);stroke-width:1.5px;vector-effect:non-scaling-stroke}svg .bad{fill:var(--bad)}
svg .on-old{fill:var(--on-old)}svg .on-new{fill:var(--on-new)}svg .on-bad{fill:var(--on-bad)}
svg .pings{fill:var(--soft)}
svg .grid{stroke:var(--line)}
svg .mark{stroke:var(--text);stroke-width:1.5px}svg .commit{stroke-width:2.5px}svg .refused{stroke-width:2.5px;stroke-dasharray:6 3}svg .end{stroke-dasharray:2 3}
.cross path{stroke:var(--bad);stroke-width:2.5px;fill:none}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.6rem;background:var(--card)}
.wide:focus-visible{outline:3px solid var(--new-line)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:.7rem .9rem .3rem;font-size:.9375rem}
th,td{padding:.4rem .9rem;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.9375rem}
th:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.no{color:var(--bad);font-weight:700}
ul.found{padding-left:1.2rem;margin:.3rem 0}
.found li{margin:.3rem 0}
@media print{body{background:#fff}main{max-width:none;padding:0}}
`
