// Draws a report's plots in the theme that the reader's system has.

// For dark paper, beside the colours of page.py.
const ON_DARK = {
  "#0072b2": "#62b5f5",
  "#d55e00": "#ff8f3d",
  "#009e73": "#35c79a",
  "#cc79a7": "#e6a5c8",
  "#000000": "#e6eaf0",
};
const STANDOFF = 10; // pixels between an axis' title and its numbers
const LOG_TICKS = 5; // more of them, with 2 to 9 between the powers, stand on one another
const dark = matchMedia("(prefers-color-scheme: dark)");
const coarse = matchMedia("(pointer: coarse)");

/** As the reader sees it: what a custom property holds is not resolved for scripts. */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw() {
  const [ink, line] = [colour("--ink"), colour("--line")];
  for (const holder of document.querySelectorAll("script.figure")) {
    const text = holder.textContent;
    const shown = dark.matches ? text.replace(/#[0-9a-f]{6}/g, (one) => ON_DARK[one] ?? one) : text;
    const { data, layout: written } = JSON.parse(shown);
    const layout = { xaxis: {}, yaxis: {}, ...written }; // of axes that nothing is said of too
    for (const [name, axis] of Object.entries(layout)) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      if (axis.title && name.startsWith("y")) axis.title = { standoff: STANDOFF, ...axis.title };
      const few = axis.type === "log" ? { nticks: LOG_TICKS } : {};
      layout[name] = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, ...few, ...axis };
    }
    const clear = { paper_bgcolor: "transparent", plot_bgcolor: "transparent" };
    const font = { family: "system-ui, sans-serif", color: ink, ...layout.font };
    const touched = coarse.matches ? { dragmode: false } : {}; // a finger scrolls the page
    const whole = { ...layout, ...clear, ...touched, font };
    const config = { responsive: true, displaylogo: false, displayModeBar: coarse.matches ? false : "hover" };
    Plotly.react(holder.previousElementSibling, data, whole, config);
  }
}

if (window.Plotly) {
  draw();
  dark.addEventListener("change", draw);
} else document.getElementById("no-charts").hidden = false;
