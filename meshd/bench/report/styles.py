"""The style sheets of page and picture."""

from __future__ import annotations

from meshd.bench.report.markup import Markup

CHART = Markup("""
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
text{fill:var(--quiet);font-variant-numeric:tabular-nums}
text.name,text.value{fill:var(--ink)}
text.value{font-weight:600}
.value,.end{text-anchor:end}
.middle{text-anchor:middle}
.bar,.marker{fill:var(--c)}
.bar{stroke:var(--card);stroke-width:1}
.marker{stroke:var(--card);stroke-width:1}
.spread{stroke:var(--quiet);stroke-width:2;fill:none}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.line.meshd-fast{stroke-width:3.5}
.line.direct{stroke-dasharray:2 3}
.line.node-proxy{stroke-dasharray:8 3}
.line.node-proxy-sockmap{stroke-dasharray:8 3 2 3}
.grid,.rule{stroke:var(--line);stroke-width:1}
.band{fill:var(--card)}
""")
"""What draw.py's classes look like."""

PAGE = Markup("""
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink)}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 16px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.25rem;margin:44px 0 6px}
h3{font-size:1rem;margin:0}
p{margin:0 0 12px;max-width:72ch}
.quiet,figcaption p,dt{color:var(--quiet)}
.partial{border:2px solid var(--sidecar);border-radius:8px;padding:8px 14px;margin:16px 0;font-weight:600}
.against{margin:22px 0 8px;font-size:1rem}
.load{margin:14px 0 0;max-width:none}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,150px),1fr));gap:12px;margin:0;padding:0;list-style:none}
.card,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:10px}
.card{padding:14px 16px}
.card b{display:block;font-size:2.1rem;line-height:1.15;font-variant-numeric:tabular-nums}
.card b,.card small{overflow-wrap:anywhere}
.card span{display:block}
.card small{color:var(--quiet);font-size:.84rem}
.charts{display:grid;gap:16px;margin:12px 0}
.charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
figure{margin:0;padding:16px;min-width:0}
figcaption p{font-size:.86rem;margin:2px 0 12px}
.chart{display:block;width:100%;max-width:480px;height:auto;overflow:visible}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:0 0 12px;padding:0;font-size:.86rem}
.legend li{display:flex;align-items:center;gap:7px}
.key{width:30px;height:16px}
.signs{position:absolute}
.legend i{width:14px;height:12px;background:var(--c);border-radius:2px}
.scroll{overflow-x:auto;margin:12px 0}

.scroll:focus-visible,summary:focus-visible{outline:3px solid var(--meshd-fast);outline-offset:2px}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;width:100%}
caption{text-align:left;color:var(--quiet);padding:0 0 6px}
th,td{padding:6px 0 6px 10px;border-bottom:1px solid var(--line)}
th:first-child{padding-left:0}
th,td{text-align:right;white-space:nowrap;vertical-align:top}
th{font-weight:600}
thead th{color:var(--quiet);vertical-align:bottom;white-space:normal}
.w{text-align:left}
tbody .w{white-space:normal;min-width:13ch}
td.w{min-width:17ch}
.loads tbody th{min-width:26ch;font-weight:400}
.tables{padding:2px 16px}
.hero>*{font-weight:700}
details.box{margin:10px 0;padding:0 16px}
summary{cursor:pointer;padding:12px 0;display:flex;flex-wrap:wrap;gap:2px 16px;justify-content:space-between}
summary::before{content:"▸";color:var(--quiet);margin-right:-6px}
details[open]>summary::before{content:"▾"}
summary b{font-weight:600;flex:1 1 20ch}
details figure{border:0;padding:8px 0}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:8px 0;overflow-wrap:anywhere}
dd{margin:0}
ul.plain,ol.plain{margin:8px 0;padding-left:22px;max-width:76ch}
.plain li{margin:4px 0}
@media(max-width:520px){
.facts{grid-template-columns:1fr}.facts dd{margin:0 0 8px}
figure{padding:14px 12px}h2{margin-top:34px}
}
@media print{details.box{break-inside:avoid}body{background:#fff}}
""")
"""What html.py's elements look like."""
