"""Style and script of the page: inline, because the page must open from disk with no network and no file beside it."""

STYLE = """
:root { --bg:#faf9f6; --card:#ffffff; --ink:#22252b; --soft:#676d78; --line:#e6e3dc; --accent:#1f6f6b; --tint:#eef5f4; --good:#2e7d4f;
  --bad:#b3503f; --even:#4a6fa5; --open:#8b8f98; --mark:#fff4d6; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { --bg:#14161a; --card:#1b1e24; --ink:#e5e7eb; --soft:#9aa1ad;
  --line:#2c3038; --accent:#6cc4bd; --tint:#1d2a2b; --good:#6fc28f; --bad:#e08a78; --even:#8fb0e0; --open:#8b93a1; --mark:#3a3320; } }
:root[data-theme=dark] { --bg:#14161a; --card:#1b1e24; --ink:#e5e7eb; --soft:#9aa1ad; --line:#2c3038; --accent:#6cc4bd; --tint:#1d2a2b;
  --good:#6fc28f; --bad:#e08a78; --even:#8fb0e0; --open:#8b93a1; --mark:#3a3320; }
* { box-sizing:border-box; }
html { scroll-behavior:smooth; scroll-padding-top:4rem; }
body { margin:0; background:var(--bg); color:var(--ink);
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1400px; margin:0 auto; padding:0 1.5rem 5rem; }
header { max-width:1400px; margin:0 auto; padding:3.2rem 1.5rem 1.2rem; }
h1 { font-size:2.1rem; font-weight:650; letter-spacing:-.02em; margin:0 0 .3rem; }
h2 { font-size:1.35rem; font-weight:640; letter-spacing:-.01em; margin:3.4rem 0 .2rem; text-transform:capitalize; }
h3 { font-size:1.05rem; font-weight:620; margin:0; }
p { margin:.35rem 0; }
.soft, .sub { color:var(--soft); }
.sub { font-size:.86rem; }
a { color:var(--accent); }
code { font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; }
nav { position:sticky; top:0; z-index:5; background:color-mix(in srgb, var(--bg) 88%, transparent); backdrop-filter:blur(10px);
  border-bottom:1px solid var(--line); }
nav div { max-width:1400px; margin:0 auto; padding:.55rem 1.5rem; display:flex; gap:.35rem; flex-wrap:wrap; align-items:center; }
nav a { text-decoration:none; color:var(--soft); padding:.22rem .7rem; border-radius:99px; font-size:.88rem; text-transform:capitalize; }
nav a:hover, nav a:focus-visible { background:var(--tint); color:var(--accent); }
button { font:inherit; color:inherit; background:none; border:0; cursor:pointer; padding:0; }
#theme { margin-left:auto; border:1px solid var(--line); border-radius:99px; padding:.12rem .7rem; font-size:.82rem; color:var(--soft); }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(165px,1fr)); gap:.8rem; margin-top:1.4rem; }
.card { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:.85rem 1rem; text-decoration:none;
  color:inherit; display:block; }
.card:hover { border-color:var(--accent); }
.card b { display:block; font-size:.8rem; color:var(--soft); font-weight:550; text-transform:capitalize; }
.card strong { display:block; font-size:1.02rem; font-weight:620; overflow-wrap:anywhere; margin:.1rem 0; }
section.task { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:1.15rem 1.25rem 1rem; margin:1rem 0
  1.4rem; }
.scroll { overflow-x:auto; margin:.7rem -.35rem 0; }
table { border-collapse:collapse; width:100%; font-size:.9rem; font-variant-numeric:tabular-nums; }
th { text-align:right; font-weight:560; color:var(--soft); font-size:.79rem; padding:.3rem .55rem; border-bottom:1px solid var(--line);
  white-space:nowrap; vertical-align:bottom; }
th.l, td.l { text-align:left; }
th button { font-weight:560; }
th button:hover { color:var(--accent); }
th[aria-sort=ascending] button::after { content:" \\2191"; }
th[aria-sort=descending] button::after { content:" \\2193"; }
td { text-align:right; padding:.38rem .55rem; border-bottom:1px solid var(--line); white-space:nowrap; vertical-align:middle; }
tbody tr.row:hover td { background:var(--tint); }
.name { font-weight:560; }
.near .name, .near .primary { font-weight:720; }
.near .name::before { content:"\\2217"; color:var(--accent); margin-right:.2rem; }
td .sub { display:block; font-weight:400; font-size:.77rem; line-height:1.25; }
.chip { font-size:.76rem; padding:.06rem .5rem; border-radius:99px; border:1px solid currentColor; }
.better { color:var(--good); }
.worse { color:var(--bad); }
.equivalent { color:var(--even); }
.inconclusive, .too-few-samples { color:var(--open); }
.do-nothing td { background:color-mix(in srgb, var(--mark) 55%, transparent); }
.stale .name { text-decoration:underline dotted; }
.unranked td { color:var(--soft); }
td.wide { text-align:left; white-space:normal; background:var(--bg); padding:.8rem 1rem; }
.open { color:var(--accent); text-decoration:underline dotted; text-underline-offset:3px; }
td.wide dl { display:grid; grid-template-columns:max-content 1fr; gap:.12rem 1rem; margin:.2rem 0; font-size:.83rem; }
dt { color:var(--soft); }
dd { margin:0; overflow-wrap:anywhere; }
td.wide table { font-size:.8rem; margin-top:.5rem; }
td.wide td { border-bottom:1px dotted var(--line); }
svg.forest { display:block; width:150px; height:14px; margin-top:.12rem; }
.notes { margin-top:.6rem; font-size:.85rem; color:var(--soft); }
.notes ul { list-style:none; margin:0; padding:0; }
.notes li { margin:.15rem 0; }
details summary { cursor:pointer; }
.strip { margin-top:1.1rem; }
.strip > p { font-size:.82rem; color:var(--soft); margin-bottom:.35rem; }
.figures { display:flex; gap:.75rem; overflow-x:auto; padding-bottom:.5rem; }
figure { margin:0; flex:0 0 auto; }
figure img { display:block; border-radius:6px; background:#808080; }
.crisp { image-rendering:pixelated; }
figcaption { font-size:.8rem; margin-top:.3rem; max-width:240px; overflow-wrap:anywhere; line-height:1.3; }
figcaption span { color:var(--soft); display:block; }
.audio figure { width:272px; }
.audio img { width:272px; height:110px; }
audio { width:272px; height:32px; margin-top:.35rem; }
.label .figures { gap:.5rem; }
.label img { width:56px; height:56px; }
.right span { color:var(--good); }
.wrong span { color:var(--bad); }
footer { max-width:1400px; margin:0 auto; padding:1rem 1.5rem 4rem; color:var(--soft); font-size:.84rem; border-top:1px solid var(--line); }
@media print { nav { display:none; } section.task { break-inside:avoid; } }
"""

SCRIPT = """
"use strict";
document.querySelectorAll("table.board").forEach(function (table) {
  var heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    var button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (h) { h.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var value = function (body) {
        var cell = body.rows[0].cells[column], raw = cell.dataset.value;
        return raw === undefined ? cell.textContent.trim().toLowerCase() : raw === "" ? null : Number(raw);
      };
      Array.from(table.tBodies).sort(function (a, b) {
        var x = value(a), y = value(b);
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      }).forEach(function (body) { table.appendChild(body); });
    });
  });
});
document.querySelectorAll("button.open").forEach(function (button) {
  button.addEventListener("click", function () {
    var more = button.closest("tbody").querySelector("tr.more");
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
  });
});
document.getElementById("theme").addEventListener("click", function () {
  var root = document.documentElement, dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  var now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});
"""
