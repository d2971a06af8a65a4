"""How a report looks, beyond what every page has."""

STYLE = """
.warning { border-left: 4px solid var(--mark); padding-left: .6rem; }
.gap { margin-bottom: 1rem; }
.scores table { width: auto; min-width: 100%; }
.scores th, .scores td { padding: .3rem .5rem; text-align: right; white-space: nowrap; }
.scores thead th { white-space: normal; vertical-align: bottom; line-height: 1.25;
  min-width: 3.6rem; }
.scores thead th[colspan] { text-align: left; border-left: 1px solid var(--edge); }
.scores th:first-child { position: sticky; left: 0; z-index: 1; background: var(--card);
  text-align: left; min-width: 7rem; max-width: 13rem; white-space: normal;
  overflow-wrap: anywhere; border-right: 1px solid var(--edge); }
.scores tbody th { font-weight: 400; }
.scores .ours th, .scores .best b { font-weight: 700; }
.scores .best b { text-decoration: underline; text-underline-offset: .2em; }
.scores b { font-weight: 400; }
.scores span { display: block; color: var(--quiet); font-size: .8em;
  line-height: 1.2; }
.scores .part th { color: var(--quiet); font-size: .85rem; padding-top: .9rem; }
.bar-chart { display: block; overflow: visible; font-size: .8rem;
  font-variant-numeric: tabular-nums; }
.bar-chart text { fill: var(--text); }
.bar-chart .track { fill: var(--track); }
.bar-chart .ours { fill: var(--mark); }
.bar-chart .run { fill: var(--mark); opacity: .55; }
.bar-chart .random { fill: var(--quiet); opacity: .75; }
.bar-chart .published { fill: none; stroke: var(--mark); stroke-width: 1.5px; }
.bar-chart .spread { stroke: var(--text); stroke-width: 2px; }
.bar-chart .chance { stroke: var(--text); stroke-width: 1.5px; }
details + details { border-top: 1px solid var(--edge); }
summary { cursor: pointer; padding: .5rem 0; }
details > :last-child { margin-bottom: 1rem; }
ul { margin: 0; padding-left: 1.2rem; }
li + li { margin-top: .35rem; }
@media (max-width: 30rem) { .scores th:first-child { max-width: 7.5rem; } }
"""
