"""How the page looks: light and dark, wide and narrow."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1f2430;--mut:#5f6b7e;--line:#e4e7ec;
--card:#f8f9fb;--link:#1d4ed8;--compile:#2f6fed;--ok:#0e7d40;--fail:#c8281c;
--stop:#a15c07;--env:#b3bcc9;--env-text:#1f2430;--lock:#7a5af0;--why:#fff7e6;
--stripe:#dfe3ea}
@media(prefers-color-scheme:dark){:root{--bg:#14161a;--fg:#e6e9ef;--mut:#9aa4b5;
--line:#2b303a;--card:#1b1e24;--link:#8fb3ff;--compile:#3b76e8;--ok:#2ea866;
--fail:#f0695e;--stop:#d99a3d;--env:#4a5566;--env-text:#e6e9ef;--lock:#8a70f5;
--why:#2a2416;--stripe:#343a46}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,"Liberation Sans",sans-serif;overflow-wrap:break-word}
main{max-width:1080px;margin:28px auto 40px;padding:0 20px}
h1{font-size:22px;line-height:1.3;margin:0}h1 span{white-space:nowrap}
h2{font-size:16px;margin:34px 0 10px}h3{font-size:14px;margin:18px 0 6px}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code,pre,.mono{font:13px/1.5 ui-monospace,"DejaVu Sans Mono",monospace;
overflow-wrap:anywhere}
.mut{color:var(--mut)}.small{font-size:13px}.ok{color:var(--ok)}
.failed{color:var(--fail)}.stopped,.killed{color:var(--stop)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:12px 16px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin-top:18px}
.tiles div{flex:1 1 auto;min-width:120px}
.tiles b{display:block;font-size:20px;line-height:1.35;white-space:nowrap}
.tiles span{font-size:13px}
.error{border-left:4px solid var(--fail);margin-top:12px}
.error pre{margin:8px 0 0;white-space:pre-wrap}
.chip{border-radius:20px;padding:1px 9px;font-size:12px;color:#fff;
white-space:nowrap;background:#667085}
.chip.kept{background:#4d7a60}.chip.built{background:#2563eb}.chip.cached{background:#0e7d40}
.chip.failed{background:#c8281c}.chip.stopped,.chip.killed{background:#a15c07}
.lanes{position:relative}
.lane{display:grid;grid-template-columns:var(--label) minmax(0,1fr);padding:3px 0}
.lane>span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;
padding-right:10px;line-height:24px}
.rows{display:grid;gap:4px}.row{position:relative;height:24px}
.bar{position:absolute;top:1px;height:22px;min-width:2px;border-radius:5px;
color:#fff;font-size:12px;line-height:22px;padding:0 7px;white-space:nowrap;
overflow:hidden;text-overflow:ellipsis}
.bar.thin{padding:0}
.bar.environment{background:var(--env);color:var(--env-text)}
.bar.wait{background:repeating-linear-gradient(45deg,var(--stripe) 0 4px,
var(--card) 4px 8px);color:var(--fg)}
.bar.compile{background:#2f6fed}.bar.check{background:#12874a}
.bar.lock{background:#7a5af0}.bar.failed{background:#c8281c}
.bar.stopped,.bar.killed{background:#a15c07}
.beside{position:absolute;line-height:24px;white-space:nowrap;font-size:13px;
color:var(--mut)}
.grid{position:absolute;inset:0 0 0 var(--label);pointer-events:none}
.grid i{position:absolute;top:0;bottom:0;border-left:1px solid var(--line)}
.axis{position:relative;height:18px;margin-left:var(--label);font-size:11px;
color:var(--mut)}
.axis span{position:absolute;white-space:nowrap}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12px;color:var(--mut);
margin-top:8px}
.legend i{display:inline-block;position:static;width:12px;height:12px;
vertical-align:-1px;border-radius:3px;margin-right:5px;padding:0}
.path{margin:10px 0 0}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:8px 10px 8px 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-size:12px;color:var(--mut);font-weight:600}
td.num,td.name{white-space:nowrap}.files th:first-child{width:50%}
.why{background:var(--why);border-radius:8px;padding:5px 10px;font-size:13px}
.wide{overflow-x:auto}.wide th:first-child,.wide td:first-child{position:sticky;
left:0;background:var(--bg)}
.meter{display:block;height:6px;border-radius:3px;background:#2f6fed;
min-width:2px;margin-top:3px}
details{margin-top:8px}summary{cursor:pointer}details>summary{color:var(--link)}
details[open]>summary{margin-bottom:8px}
dl{display:grid;grid-template-columns:110px minmax(0,1fr);gap:3px 12px;margin:0 0 8px;
font-size:13px}dt{color:var(--mut)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:40px;border-top:1px solid var(--line);padding-top:12px}
@media(max-width:640px){main{margin-top:18px;padding:0 14px}
.tiles{display:grid;grid-template-columns:1fr 1fr;gap:8px}
.tiles b{font-size:17px;white-space:normal}
.card{padding:10px 12px}
.lane{display:block}.lane>span{display:block;font-size:13px}
.grid{left:0}.axis{margin-left:0}.axis span:nth-child(even){display:none}
.stack thead{display:none}.stack tr{display:block;padding:10px 0;
border-bottom:1px solid var(--line)}
.stack td{display:block;border:0;padding:2px 0}
.stack td[data-label]{display:grid;grid-template-columns:80px minmax(0,1fr)}
.stack td[data-label]::before{content:attr(data-label);color:var(--mut);
font-size:12px;line-height:22px}.stack td:empty{display:none}
.stack td.name{white-space:normal}
dl{grid-template-columns:80px minmax(0,1fr)}}
@media print{main{max-width:none}details>*{display:revert}}
"""
