"""How pages look: one style sheet, in light and dark, from a phone to a wide screen."""

STYLE = """
:root { color-scheme: light dark; --ground: #f5f6f8; --card: #fff; --text: #1b2230;
  --quiet: #5a6475; --edge: #dde1e8; --mark: #2767b0; --fill: #2767b02e; --track: #eceff4; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #12151b; --card: #1b2029; --text: #e4e8ef; --quiet: #9aa5b6;
    --edge: #2e3542; --mark: #6fb1f4; --fill: #6fb1f433; --track: #262d38; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3, p, dl, dd, figure { margin: 0; }
h1, h3, p, figcaption { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.15rem; margin-bottom: .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
header { padding: .5rem 0 1rem; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 8px;
  padding: 1rem; margin-bottom: 1rem; }
code, .code { font-family: ui-monospace, monospace; font-size: .87em; }
th, td, code, dd, h3, figcaption span { unicode-bidi: isolate; }
.quiet, caption, dt, figcaption { color: var(--quiet); }
p + p, .tiles + *, .wide + *, .plot + p { margin-top: .75rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr));
  gap: .75rem 1rem; }
.tiles dt { font-size: .85rem; }
.tiles dd { font-size: 1.5rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; background:
  linear-gradient(to right, var(--card) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--card) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--edge), transparent) 0 0 / .9rem 100% no-repeat,
  linear-gradient(to left, var(--edge), transparent) 100% 0 / .9rem 100% no-repeat; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .25rem; }
th { font-weight: 600; text-align: left; }
th, td { padding: .3rem .9rem .3rem 0; vertical-align: top; }
thead th { color: var(--quiet); font-weight: 500; font-size: .85rem; white-space: nowrap; }
tbody tr + tr > *, thead + tbody tr > * { border-top: 1px solid var(--edge); }
td.number { text-align: right; white-space: nowrap; }
th.number { text-align: right; }
.number { width: 1%; }
.short { white-space: nowrap; }
.text { min-width: 9rem; overflow-wrap: anywhere; }
.bars th { font-weight: 400; width: 1%; }
.bars tr > * { border: 0 !important; vertical-align: middle; }
.bars .track { width: 99%; }
.bars .number { padding-right: 0; }
.bar { display: block; height: .9rem; min-width: 2px; background: var(--mark);
  border-radius: 2px; }
.plots { display: grid; gap: 1.25rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
.plot { display: grid; grid-template-columns: 3.6rem minmax(0, 1fr); padding-right: .9rem;
  font-size: .8rem; color: var(--quiet); font-variant-numeric: tabular-nums; }
.y-label { grid-column: 1 / 3; padding-bottom: .5rem; }
.y-ticks { position: relative; }
.y-ticks span { position: absolute; right: .5rem; transform: translateY(50%); line-height: 1; }
.area { height: 11rem; border: solid var(--edge); border-width: 0 0 1px 1px; }
.area svg, .area img { display: block; width: 100%; height: 100%; overflow: visible; }
.x-ticks { grid-column: 2; position: relative; height: 1.3rem; }
.x-ticks span { position: absolute; top: .25rem; transform: translateX(-50%); }
.x-label { grid-column: 2; text-align: center; }
.area rect { fill: var(--mark); }
.area .fill { fill: var(--fill); }
.area .line { fill: none; stroke: var(--mark); stroke-width: 2px; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
figure { min-width: 0; }
figure .area { height: 8rem; border: 0; }
figcaption { margin-bottom: .5rem; font-size: .87rem; }
figcaption b { display: block; color: var(--text); font-size: .95rem; }
audio { display: block; width: 100%; height: 2.5rem; margin-bottom: .5rem; }
@media (max-width: 30rem) { body { padding: .5rem; } section { padding: .75rem; } }
@media print { body { max-width: none; } audio { display: none; } }
"""
