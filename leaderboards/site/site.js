"use strict";
// What the pages do: sort and filter tables, draw plots, say where a number comes from. Everything from records is set as text, never as HTML.
(function () {
  var root = document.documentElement, holder = document.getElementById("data");
  var data = holder ? JSON.parse(holder.textContent) : {};
  var each = function (selector, act, inside) { Array.prototype.forEach.call((inside || document).querySelectorAll(selector), act); };
  var make = function (tag, text, kind) {
    var e = document.createElement(tag);
    if (text !== undefined && text !== null) e.textContent = text;
    if (kind) e.className = kind;
    return e;
  };

  // ---------------------------------------------------------------- tables
  var jQuery = window.scorebenchTables && window.scorebenchTables.jQuery;
  if (jQuery) {
    var order = jQuery.fn.dataTable.ext.type.order, blank = function (x) { return x === "" || x === null || isNaN(x); };
    var compare = function (sign) {
      return function (a, b) { return blank(a) || blank(b) ? blank(a) - blank(b) : sign * (Number(a) - Number(b)); };
    };
    order["number-asc"] = compare(1);  // cells without a number stay last, whichever way
    order["number-desc"] = compare(-1);
    jQuery.fn.dataTable.ext.errMode = "throw";
    each("table[data-grid]", function (table) {
      var numbers = [], heads = table.tHead.rows[0].cells;
      for (var i = 0; i < heads.length; i++) if (heads[i].classList.contains("n")) numbers.push(i);
      var grid = jQuery(table).DataTable({
        paging: false, info: false, order: [], autoWidth: false, orderMulti: true,
        layout: {topStart: null, topEnd: null, bottomStart: null, bottomEnd: null},
        columnDefs: numbers.length ? [{targets: numbers, type: "number", orderSequence: ["desc", "asc", ""]}] : [],
        language: {zeroRecords: "No row fits the search.", emptyTable: "No row."}
      });
      var section = table.closest("section"), tools = section && section.querySelector(".tools");
      if (!tools) return;
      tools.hidden = false;
      var shown = tools.querySelector(".shown");
      var count = function () {
        var n = grid.rows({search: "applied"}).count(), all = grid.rows().count();
        shown.textContent = n === all ? "" : n + " of " + all + " rows";
      };
      each("input[type=search]", function (input) {
        input.addEventListener("input", function () { grid.search(input.value).draw(); count(); });
      }, tools);
      each("select", function (select) {
        select.addEventListener("change", function () {
          var text = select.value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
          grid.column(Number(select.dataset.column)).search(text ? "^" + text + "$" : "", {regex: true, smart: false}).draw();
          count();
        });
      }, tools);
    });
  }

  // ---------------------------------------------------------------- provenance
  var dialog = document.getElementById("provenance"), enlarged = document.getElementById("enlarged");
  var LABELS = {nfe: "network evaluations per sample", params: "parameters", train_s: "training, seconds", sample_s_median: "seconds per sample (median)"};
  var say = function (x) { return x === null || x === undefined ? "–" : Number(x).toPrecision(7).replace(/(\.\d*?)0+($|e)/, "$1$2").replace(/\.($|e)/, "$1"); };
  var signed = function (x) { return (x > 0 ? "+" : "") + say(x); };
  var closer = function () {
    var b = make("button", "close", "close");
    b.type = "button";
    b.addEventListener("click", function () { this.closest("dialog").close(); });
    return b;
  };
  var explain = function (key, of) {
    var row = data.rows && data.rows[key];
    if (!row) return;
    var cost = of.indexOf("cost:") === 0 ? of.slice(5) : null, metric = cost ? null : row.metrics[of];
    var inside = make("div", null, "inside"), facts = make("dl");
    var fact = function (name, value) {
      if (value === undefined || value === null || value === "") return;
      var at = make("dd");
      at.appendChild(make("code", value));
      facts.appendChild(make("dt", name));
      facts.appendChild(at);
    };
    inside.appendChild(closer());
    inside.appendChild(make("h2", row.title + ", " + (cost ? LABELS[cost] || cost : of)));
    inside.appendChild(make("p", row.task, "sub"));
    var shown = cost ? row.cost[cost] : metric && metric.mean;
    inside.appendChild(make("p", say(shown) + (metric && metric.unit ? " " + metric.unit : ""), "big"));
    if (metric && metric.delta !== undefined && !metric.reference) {
      var range = metric.low === undefined ? ", no interval: " : ", 95 % interval " + signed(metric.low) + " to " + signed(metric.high) + ": ";
      inside.appendChild(make("p", "Difference to the reference " + signed(metric.delta) + range + (metric.from || "") + "." + (metric.about === "this trained instance" ? " Fewer than three trainings: this speaks of the trained instance, not of the method." : "")));
    }
    if (cost === "sample_s_median" && !row.exclusive) inside.appendChild(make("p", "Taken beside other work: not to be compared.", "soft"));
    var command = row.facts[0][1], line = make("div", null, "command"), copy = make("button", "copy", "copy");
    copy.type = "button";
    copy.addEventListener("click", function () {
      var done = function () { copy.textContent = "copied"; };
      if (navigator.clipboard) navigator.clipboard.writeText(command).then(done, function () { getSelection().selectAllChildren(line.firstChild); });
      else getSelection().selectAllChildren(line.firstChild);
    });
    line.appendChild(make("code", command));
    line.appendChild(copy);
    inside.appendChild(line);
    if (metric) { fact("protocol", metric.identity); fact("samples", metric.n); }
    row.facts.slice(1).forEach(function (f) { fact(f[0], f[1]); });
    inside.appendChild(facts);
    var box = make("div", null, "units"), table = make("table"), head = make("tr"), body = make("tbody"), top = make("thead");
    ["seed", "draw", cost ? LABELS[cost] || cost : of].forEach(function (x) { head.appendChild(make("th", x)); });
    ["unit", "code", "observations", "environment", "written"].forEach(function (x) { head.appendChild(make("th", x, "l")); });
    row.units.forEach(function (u) {
      var tr = make("tr");
      [u.seed, u.draw, say(cost ? u.cost[cost] : u.values[of])].forEach(function (x) { tr.appendChild(make("td", x)); });
      [u.unit, u.code, u.observations, u.environment].forEach(function (x) {
        var td = make("td", null, "l");
        td.title = x;
        td.appendChild(make("code", String(x).slice(0, 12)));
        tr.appendChild(td);
      });
      tr.appendChild(make("td", u.written, "l"));
      body.appendChild(tr);
    });
    top.appendChild(head);
    table.appendChild(top);
    table.appendChild(body);
    box.appendChild(table);
    inside.appendChild(box);
    dialog.replaceChildren(inside);
    if (!dialog.open) dialog.showModal();
  };
  document.addEventListener("click", function (event) {
    var number = event.target.closest("button.num"), picture = event.target.closest("button.enlarge");
    if (number) explain(number.dataset.row, number.dataset.of);
    if (picture) {
      var image = picture.querySelector("img"), big = make("img"), times = Math.max(1, Math.floor(Math.min(innerWidth * 0.9 / image.naturalWidth, innerHeight * 0.78 / image.naturalHeight)));
      big.src = image.src;
      big.alt = image.alt;
      big.style.width = image.naturalWidth * times + "px";
      big.className = times > 1 ? "crisp" : "";
      enlarged.replaceChildren(big, make("p", image.alt));
      enlarged.showModal();
    }
    if (event.target === dialog || event.target === enlarged || event.target.closest("#enlarged")) event.target.closest("dialog").close();
  });
  var opened = /^#open=(.*)$/.exec(location.hash);
  if (opened && data.rows) {
    var wanted = decodeURIComponent(opened[1]), key = Object.keys(data.rows).filter(function (k) { return data.rows[k].title === wanted; })[0];
    var button = key && Array.prototype.filter.call(document.querySelectorAll("td.primary button.num"), function (b) { return b.dataset.row === key; })[0];
    if (button) explain(key, button.dataset.of);
  }

  // ---------------------------------------------------------------- plots
  var plotly = window.Plotly;
  var color = function (name) { return getComputedStyle(root).getPropertyValue(name).trim(); };
  var text = function (s) { return String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); };
  var tracks = function (rows) { return rows.map(function (r) { return r.track; }).filter(function (t, i, all) { return all.indexOf(t) === i; }); };
  var base = function (extra) {
    var axis = {gridcolor: color("--grid"), linecolor: color("--line"), zeroline: false, tickfont: {size: 11}, automargin: true, title: {standoff: 10}};
    var layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--ink")},
      margin: {l: 56, r: 16, t: 8, b: 44}, hoverlabel: {bgcolor: color("--card"), bordercolor: color("--line"), font: {color: color("--ink"), size: 12}},
      legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: {size: 11}}, xaxis: Object.assign({}, axis), yaxis: Object.assign({}, axis)
    };
    Object.keys(extra).forEach(function (k) { layout[k] = typeof extra[k] === "object" && layout[k] ? Object.assign(layout[k], extra[k]) : extra[k]; });
    return layout;
  };
  var config = {displayModeBar: false, responsive: true, doubleClick: "reset"};
  var pareto = function () {
    var at = document.getElementById("pareto"), d = data.pareto;
    if (!at || !d) return;
    var chosen = function (id, list) { var s = document.getElementById(id); return list.filter(function (x) { return !s || x.name === s.value; })[0]; };
    var cost = chosen("pareto-cost", d.costs), metric = chosen("pareto-metric", d.metrics), names = tracks(d.rows), points = [];
    d.rows.forEach(function (r, i) {
      if (!r.nothing && cost.values[i] !== null && cost.values[i] !== undefined && metric.values[i] !== null && metric.values[i] !== undefined) points.push({r: r, x: cost.values[i], y: metric.values[i]});
    });
    var idle = d.rows.map(function (r, i) { return r.nothing ? metric.values[i] : null; }).filter(function (v) { return v !== null && v !== undefined; })[0];
    var least = Math.min.apply(null, points.map(function (p) { return p.x; })), most = Math.max.apply(null, points.map(function (p) { return p.x; }));
    var log = least > 0 && most > 8 * least;
    var sorted = points.slice().sort(function (a, b) { return a.x - b.x || (metric.higher ? b.y - a.y : a.y - b.y); }), front = [];
    sorted.forEach(function (p) { if (!front.length || (metric.higher ? p.y > front[front.length - 1].y : p.y < front[front.length - 1].y)) front.push(p); });
    var traces = [{
      x: front.map(function (p) { return p.x; }), y: front.map(function (p) { return p.y; }), mode: "lines", line: {shape: "hv", width: 1.5, color: color("--soft"), dash: "dot"},
      hoverinfo: "skip", showlegend: false
    }];
    names.forEach(function (name, k) {
      var mine = points.filter(function (p) { return p.r.track === name; });
      traces.push({
        name: text(name), mode: "markers", showlegend: names.length > 1,
        x: mine.map(function (p) { return p.x; }), y: mine.map(function (p) { return p.y; }), customdata: mine.map(function (p) { return p.r.key; }),
        text: mine.map(function (p) { return "<b>" + text(p.r.name) + "</b><br>" + metric.name + " " + p.y.toFixed(metric.places) + "<br>" + say(p.x) + " " + cost.label; }),
        hovertemplate: "%{text}<extra></extra>",
        marker: {
          size: 10, color: color("--c" + (k % 6 + 1)), opacity: 0.92, line: {width: 1.5, color: color("--card")},
          symbol: mine.map(function (p) { return p.r.reference ? "diamond" : "circle"; })
        }
      });
    });
    var labelled = points.filter(function (p) { return front.indexOf(p) >= 0 || p.r.reference || points.length <= 8; }).slice(0, 14);
    var places = points.map(function (p) { return log ? Math.log10(p.x) : p.x; }), side = (Math.min.apply(null, places) + Math.max.apply(null, places)) / 2;
    var notes = labelled.map(function (p, i) {
      var right = (log ? Math.log10(p.x) : p.x) > side;
      return {
        x: log ? Math.log10(p.x) : p.x, y: p.y, text: text(p.r.name), showarrow: false, xanchor: right ? "right" : "left", xshift: right ? 4 : -4,
        yshift: 13, font: {size: 11, color: color("--ink")}, captureevents: false
      };
    });
    var low = Math.min.apply(null, points.map(function (p) { return p.y; })), high = Math.max.apply(null, points.map(function (p) { return p.y; })), room = (high - low) * 1.5;
    var shapes = [], near = idle !== undefined && idle > low - room && idle < high + room;
    if (near) {
      shapes.push({type: "line", xref: "paper", x0: 0, x1: 1, y0: idle, y1: idle, line: {width: 1, color: color("--soft"), dash: "dash"}});
      notes.push({xref: "paper", x: 1, xanchor: "right", y: idle, yshift: 8, text: "doing nothing", showarrow: false, font: {size: 10.5, color: color("--soft")}});
    }
    var decades = log ? Math.log10(most / least) : 0;
    var layout = base({
      shapes: shapes,
      showlegend: names.length > 1, annotations: notes, xaxis: {type: log ? "log" : "linear", dtick: log ? (decades > 2.2 ? 1 : "D2") : undefined, title: {text: cost.label, standoff: 8}},
      yaxis: {title: {text: text(metric.label), standoff: 8}}, hovermode: "closest"
    });
    plotly.react(at, traces, layout, config).then(function () { spare(at, notes.slice(0, labelled.length)); });
    var beyond = document.getElementById("pareto-idle");
    if (beyond) beyond.textContent = idle === undefined || near ? "" : "Doing nothing gives " + idle.toFixed(metric.places) + ", beyond the plot.";
    if (!at.dataset.live) {
      at.dataset.live = "1";
      at.on("plotly_click", function (event) { var p = event.points[0]; if (p && p.customdata) explain(p.customdata, current("pareto-metric", d.metrics)); });
    }
  };
  var current = function (id, list) { var s = document.getElementById(id); return s ? s.value : list[0].name; };
  // labels that would lie on each other are moved apart, upwards and downwards, by the pixels they lack
  var spare = function (at, notes) {
    if (notes.length < 2) return;
    var axis = at._fullLayout && at._fullLayout.yaxis, across = at._fullLayout && at._fullLayout.xaxis;
    if (!axis || !across) return;
    var boxes = notes.map(function (n, i) {
      var x = across.d2p(across.type === "log" ? Math.pow(10, n.x) : n.x), wide = n.text.length * 6.2;
      return {i: i, y: axis.d2p(n.y), left: n.xanchor === "right" ? x + 4 - wide : x - 4, wide: wide};
    }).sort(function (a, b) { return a.y - b.y; });
    var placed = [];
    boxes.forEach(function (b) {
      var y = b.y;
      placed.forEach(function (o) { if (o.left < b.left + b.wide && b.left < o.left + o.wide && y < o.y + 14) y = o.y + 14; });
      b.shift = b.y - y;
      b.y = y;
      placed.push(b);
    });
    var update = {};
    boxes.forEach(function (b) { if (b.shift) update["annotations[" + b.i + "].yshift"] = 13 + b.shift; });
    if (Object.keys(update).length) plotly.relayout(at, update);
  };
  var spread = function () {
    var at = document.getElementById("spread"), d = data.spread;
    if (!at || !d) return;
    var what = document.getElementById("spread-what"), difference = what && what.value === "difference";
    var reference = d.rows.filter(function (r) { return r.reference; })[0], known = {};
    if (difference) reference.ids.forEach(function (id, i) { known[id] = reference.values[i]; });
    var names = tracks(d.rows), rows = d.rows.filter(function (r) { return !(difference && r.reference); }).reverse();
    var traces = rows.map(function (r) {
      var values = difference ? r.values.map(function (v, i) { return known[r.ids[i]] === undefined ? null : v - known[r.ids[i]]; }) : r.values;
      return {
        type: "box", orientation: "h", name: text(r.name), x: values, y: values.map(function () { return text(r.name); }), showlegend: false,
        boxpoints: d.points ? "all" : false, jitter: 0.55, pointpos: 0, text: r.ids.map(text), width: 0.62,
        marker: {size: 4, color: color("--c" + (names.indexOf(r.track) % 6 + 1)), opacity: 0.5}, line: {width: 1.2, color: r.reference ? color("--accent") : color("--soft")},
        fillcolor: "rgba(128,128,128,0.10)", hovertemplate: d.points ? "%{text}: %{x}<extra></extra>" : undefined, hoverinfo: d.points ? undefined : "x"
      };
    });
    at.style.height = Math.max(300, 90 + 34 * rows.length) + "px";
    var label = d.metric + (d.unit ? ", " + d.unit : "") + (difference ? ", difference to " + reference.name : "");
    plotly.react(at, traces, base({
      margin: {l: 8, r: 12, t: 8, b: 44}, xaxis: {title: {text: text(label), standoff: 8}, zeroline: !!difference, zerolinecolor: color("--soft")},
      yaxis: {type: "category", ticks: "", gridcolor: "rgba(0,0,0,0)"}
    }), config);
  };
  var draw = function () {
    if (!plotly) {
      each(".plots", function (p) { p.hidden = true; });
      return;
    }
    pareto();
    spread();
  };
  ["pareto-cost", "pareto-metric"].forEach(function (id) { var s = document.getElementById(id); if (s) s.addEventListener("change", draw); });
  var what = document.getElementById("spread-what");
  if (what) what.addEventListener("change", draw);
  draw();

  // ---------------------------------------------------------------- light and dark
  document.getElementById("theme").addEventListener("click", function () {
    var dark = window.matchMedia("(prefers-color-scheme: dark)").matches, now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("scorebench-theme", root.dataset.theme); } catch (e) { /* a browser may forbid it for files: then it is forgotten */ }
    draw();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("hashchange", function () { location.reload(); });
})();
