// Draws the plots in the reader's colours, and again when those, the width or a choice change.
(async () => {
  "use strict";
  // What the page carries is packed: gzip in base64.
  async function unpack(id) {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  const root = document.documentElement;
  const { plots, views } = JSON.parse(await unpack("plots"));
  const hidden = {}; // by block: the entries of the legend that are switched off
  const chosen = {}; // by block: the view chosen in each toggle
  for (const [block, toggles] of Object.entries(views)) {
    hidden[block] = new Set();
    chosen[block] = toggles.map(() => 0);
  }

  const property = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  // "--arm-1" and "--arm-1 15%" (opacity) are names in the style sheet; "--ramp 40" is a place on the ramp.
  function colour(name) {
    const ramp = /^--ramp ([\d.]+)$/.exec(name);
    if (ramp) {
      const place = Number(ramp[1]);
      const [from, to] = place < 50 ? [0, 50] : [50, 100];
      const a = rgb(property(`--ramp-${from}`));
      const b = rgb(property(`--ramp-${to}`));
      return `rgb(${a.map((v, i) => Math.round(v + ((b[i] - v) * (place - from)) / 50))})`;
    }
    const [, token, share] = /^(--[\w-]+)(?: (\d+)%)?$/.exec(name);
    return share ? `rgba(${rgb(property(token))},${share / 100})` : property(token);
  }

  const COLOURED = new Set(["color", "fillcolor"]);
  function inColour(spec) {
    if (Array.isArray(spec)) return spec.map(inColour);
    if (spec === null || typeof spec !== "object") return spec;
    const entries = Object.entries(spec).map(([key, value]) =>
      COLOURED.has(key) && typeof value === "string" && value.startsWith("--") ? [key, colour(value)] : [key, inColour(value)]);
    return Object.fromEntries(entries);
  }

  function merge(base, over) {
    const both = (key) => [base[key], over[key]].every((v) => v && typeof v === "object" && !Array.isArray(v));
    const out = { ...base };
    for (const key of Object.keys(over)) out[key] = both(key) ? merge(base[key], over[key]) : over[key];
    return out;
  }

  const shows = (plot, trace) =>
    !hidden[plot.block].has(trace.legendgroup) && (!trace.meta?.option || trace.meta.option === plot.chosen);

  function look() {
    const axis = {
      gridcolor: colour("--grid"), zeroline: false, zerolinecolor: colour("--rule"), automargin: true, nticks: 7,
      tickfont: { color: colour("--quiet"), size: 12 }, title: { font: { color: colour("--quiet"), size: 13 }, standoff: 10 },
      fixedrange: matchMedia("(pointer: coarse)").matches,
    };
    return {
      font: { family: property("--sans"), color: colour("--ink"), size: 13 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, separators: ".,",
      margin: { l: 8, r: 24, t: 10, b: 8 },
      xaxis: { ...axis, showgrid: false, showline: true, linecolor: colour("--rule"), tickformat: ",~r" },
      yaxis: axis,
      hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--sheet"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 13 } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
  }

  // On a logarithmic axis: ticks at 1, 2 and 5 where they have room, else at powers of ten.
  function logTicks(values, pixels) {
    const positive = values.filter((v) => v > 0);
    if (!positive.length) return {};
    const [low, high] = [Math.min(...positive), Math.max(...positive)].map(Math.log10);
    const room = pixels / 50 / (high - low || 1); // ticks a decade
    if (room < 1) return { dtick: Math.ceil(1 / room) };
    const steps = room > 3 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let e = Math.floor(low) - 1; e <= Math.ceil(high); e++) for (const s of steps) ticks.push(s * 10 ** e);
    return { tickvals: ticks, ticktext: ticks.map((t) => (t >= 0.001 ? Number(t.toPrecision(1)).toLocaleString("en") : t.toExponential(0))) };
  }

  // The values that all the plots of a pair show now, so that both have the same axis.
  function sharedRange(block, log) {
    const ys = plots.filter((p) => p.block === block)
      .flatMap((p) => p.traces.filter((t) => shows(p, t)).flatMap((t) => t.y))
      .filter((y) => y !== null && (!log || y > 0)).map((y) => (log ? Math.log10(y) : y));
    if (!ys.length) return {};
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const room = (high - low || 1) * 0.05;
    return { range: [low - room, high + room], autorange: false };
  }

  // A plot in a closed part of the page has no size yet; it is drawn when that is opened.
  const closed = (element) => element.closest("details:not([open])") !== null;

  function draw(plot) {
    const element = document.getElementById(plot.id);
    if (closed(element)) return;
    const visible = plot.traces.filter((trace) => shows(plot, trace));
    let layout = merge(look(), inColour(plot.layout));
    (views[plot.block] || []).forEach((toggle, i) => {
      layout = merge(layout, toggle[chosen[plot.block][i]][plot.id] || {});
    });
    if (plot.paired) layout.yaxis = { ...layout.yaxis, ...sharedRange(plot.block, layout.yaxis.type === "log") };
    for (const [axis, key] of [["xaxis", "x"], ["yaxis", "y"]])
      if (layout[axis].type === "log" && !layout[axis].tickvals) {
        const values = visible.filter((t) => !t.yaxis).flatMap((t) => t[key]);
        layout[axis] = { ...layout[axis], ...logTicks(layout[axis].range?.map((v) => 10 ** v) ?? values, axis === "xaxis" ? element.clientWidth : element.clientHeight) };
      }
    for (const note of layout.annotations || []) note.font = { color: colour("--quiet"), size: 12 };
    const options = { displayModeBar: false, responsive: true };
    Plotly.react(element, inColour(visible), layout, options);
    if (plot.options[plot.chosen]) element.setAttribute("aria-label", plot.options[plot.chosen]);
  }

  const drawBlock = (block) => plots.filter((p) => p.block === block).forEach(draw);
  function drawAll() {
    for (const swatch of document.querySelectorAll(".swatch[data-colour]")) swatch.style.setProperty("--c", colour(swatch.dataset.colour));
    plots.forEach(draw);
  }

  for (const section of document.querySelectorAll(".block")) {
    const block = section.id;
    for (const button of section.querySelectorAll("[data-group]"))
      button.addEventListener("click", () => {
        const show = hidden[block].delete(button.dataset.group) || !hidden[block].add(button.dataset.group);
        button.setAttribute("aria-pressed", String(show));
        drawBlock(block);
      });
    for (const toggle of section.querySelectorAll("[data-toggle]"))
      for (const button of toggle.querySelectorAll("[data-view]"))
        button.addEventListener("click", () => {
          chosen[block][toggle.dataset.toggle] = Number(button.dataset.view);
          for (const other of toggle.querySelectorAll("[data-view]")) other.setAttribute("aria-pressed", String(other === button));
          drawBlock(block);
        });
    for (const select of section.querySelectorAll("select"))
      select.addEventListener("change", () => {
        plots.find((p) => p.id === select.dataset.plot).chosen = select.value;
        drawBlock(block);
      });
  }

  for (const details of document.querySelectorAll("details.figures"))
    details.addEventListener("toggle", () => {
      if (details.open) plots.filter((p) => details.contains(document.getElementById(p.id))).forEach(draw);
    });

  for (const copy of document.querySelectorAll("#copy, button[data-copy]"))
    copy.addEventListener("click", async () => {
      const source = document.getElementById(copy.dataset.copy ?? "command");
      try {
        await navigator.clipboard.writeText(source.textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source); // the reader's own Ctrl-C does the rest
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    drawAll();
  });
  addEventListener("afterprint", () => { root.classList.remove("printing"); drawAll(); });
  if (plots.length) {
    const script = document.createElement("script");
    script.textContent = await unpack("plotly");
    document.head.append(script);
  }
  drawAll();
  root.dataset.drawn = "true";
})();
