// A dashboard, drawn by Grafana's own components from its JSON and from what Prometheus answered: see __main__.py.
//
// Grafana's panels are plugins in its core and on no registry. What they draw with is @grafana/ui, and what they make of
// options and answers is @grafana/data: both are used here as the panels use them.

import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  dateTime,
  FieldConfigOptionsRegistry,
  FieldType,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from "@grafana/data";
import {
  BarGauge,
  BigValue,
  GlobalStyles,
  PanelChrome,
  PanelContextProvider,
  ThemeContext,
  TimeSeries,
} from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import { createRoot } from "react-dom/client";
import { lastValueFrom } from "rxjs";

/** Grafana's own chart leaves out what is no number too. */
const finite = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);

const ROW_PX = 38;
const COLUMNS = 24;
const GAP_PX = 8;
const ZONE = "utc";

const OPTIONS = [
  "unit",
  "min",
  "max",
  "decimals",
  "displayName",
  "noValue",
  "color",
  "thresholds",
  "mappings",
  "links",
];
const CUSTOM = ["align", "cellOptions", "width", "drawStyle", "lineWidth", "fillOpacity", "showPoints", "spanNulls"];
const CUSTOM_TOO = ["axisSoftMin", "axisPlacement", "stacking", "thresholdsStyle", "hideFrom", "lineInterpolation"];

/** What a field can be told, as a panel's plugin registers it. */
const registry = new FieldConfigOptionsRegistry(() => [
  ...OPTIONS.map((path) => option(path, path, false)),
  ...[...CUSTOM, ...CUSTOM_TOO].map((path) => option(`custom.${path}`, path, true)),
]);
const option = (id, path, isCustom) => ({
  id,
  path,
  name: id,
  isCustom,
  override: () => null,
  editor: () => null,
  process: identityOverrideProcessor,
  shouldApply: () => true,
  fieldConfigSettings: {},
});

standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({
    id: one.id,
    name: one.name,
    transformation: async () => one,
    editor: () => null,
  })),
);

const named = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "");

/** A frame for each series of a range, as Grafana's own data source makes them. */
function seriesOf({ legendFormat, refId, result }) {
  return result.map(({ metric, values }) => ({
    refId,
    length: values.length,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: values.map(([at]) => 1000 * at) },
      {
        name: "Value",
        type: FieldType.number,
        labels: metric,
        config: { displayNameFromDS: legendFormat ? named(legendFormat, metric) : nameOf(metric) },
        values: values.map(([, value]) => finite(value)),
      },
    ],
  }));
}

const nameOf = (metric) => {
  const { __name__ = "", ...labels } = metric;
  const inside = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return inside.length ? `${__name__}{${inside.join(", ")}}` : __name__ || "Value";
};

/** One frame: a column for the time, each label and the value. */
function tableOf({ refId, result }, several) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))];
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return {
    refId,
    length: result.length,
    fields: [
      column(
        "Time",
        FieldType.time,
        result.map(({ value }) => 1000 * value[0]),
      ),
      ...labels.map((name) =>
        column(
          name,
          FieldType.string,
          result.map(({ metric }) => metric[name]),
        ),
      ),
      column(
        several ? `Value #${refId}` : "Value",
        FieldType.number,
        result.map(({ value }) => Number(value[1])),
      ),
    ],
  };
}

function framesOf({ answers }) {
  return answers.flatMap((answer) => {
    if (answer.format === "table") return answer.result.length ? [tableOf(answer, answers.length > 1)] : [];
    if (!answer.instant) return seriesOf(answer);
    return seriesOf({ ...answer, result: answer.result.map(({ metric, value }) => ({ metric, values: [value] })) });
  });
}

async function dataOf(panel, theme, variables) {
  const shaped = await lastValueFrom(transformDataFrame(panel.transformations ?? [], framesOf(panel)));
  const filled = (text) => text.replace(/\$\{?(\w+)\}?/g, (whole, name) => variables[name] ?? whole);
  const frames = applyFieldOverrides({
    data: shaped,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables: filled,
    theme,
    timeZone: ZONE,
  });
  cacheFieldDisplayNames(frames);
  return { frames, filled };
}

function Content({ panel, frames, filled, theme, range, width, height }) {
  if (panel.type === "text") return <p>{panel.options.content}</p>;
  if (panel.type === "table") {
    const looks = { cellHeight: panel.options.cellHeight, initialSortBy: panel.options.sortBy };
    return frames.length ? <TableNG data={frames[0]} {...{ width, height, ...looks }} /> : <p>No data</p>;
  }
  if (panel.type === "timeseries") {
    if (!frames.length) return <p>No data</p>;
    return (
      <TimeSeries
        frames={frames}
        legend={panel.options.legend}
        timeRange={range}
        timeZone={ZONE}
        width={width}
        height={height}
      />
    );
  }
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: filled,
    theme,
    data: frames,
    sparkline: panel.options.graphMode !== "none",
    timeZone: ZONE,
  });
  if (panel.type === "stat") {
    const [{ display, sparkline }] = values;
    const { colorMode, graphMode, justifyMode, textMode } = panel.options;
    const looks = { colorMode, graphMode, justifyMode, textMode };
    return <BigValue value={display} sparkline={sparkline} theme={theme} width={width} height={height} {...looks} />;
  }
  const each = Math.max(20, Math.floor(height / Math.max(1, values.length)) - GAP_PX);
  const { displayMode, orientation, showUnfilled } = panel.options;
  const aligned = getDisplayValueAlignmentFactors(values);
  return values.map(({ display, field, name }) => (
    <BarGauge
      key={display.title ?? name}
      value={display}
      alignmentFactors={aligned}
      field={field}
      display={field.display}
      theme={theme}
      width={width}
      height={Math.min(60, each)}
      displayMode={displayMode}
      orientation={orientation}
      showUnfilled={showUnfilled}
    />
  ));
}

/** @returns {Promise<string[]>} what could not be drawn, and why */
export async function draw({ board, from_s, to_s, dark, variables }) {
  const theme = createTheme({ colors: { mode: dark ? "dark" : "light" } });
  const [from, to] = [dateTime(1000 * from_s), dateTime(1000 * to_s)];
  const range = { from, to, raw: { from, to } };
  const column = (document.body.clientWidth - GAP_PX) / COLUMNS;
  document.body.style.background = theme.colors.background.canvas;
  document.body.style.color = theme.colors.text.primary;
  document.body.style.fontFamily = theme.typography.fontFamily;
  const failed = [];
  const drawn = [];
  for (const panel of board.panels) {
    const { x, y, w, h } = panel.gridPos;
    const [width, height] = [w * column - GAP_PX, h * ROW_PX - GAP_PX];
    const place = { position: "absolute", left: GAP_PX + x * column, top: y * ROW_PX, width, height };
    try {
      if (panel.type === "row") {
        drawn.push(
          <h3 key={panel.id} style={{ ...place, fontSize: 16, margin: 0 }}>
            {panel.title}
          </h3>,
        );
        continue;
      }
      const { frames, filled } =
        panel.type === "text" ? { frames: [], filled: (text) => text } : await dataOf(panel, theme, variables);
      drawn.push(
        <section key={panel.id} style={place}>
          <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
            {(inner, tall) => <Content {...{ panel, frames, filled, theme, range }} width={inner} height={tall} />}
          </PanelChrome>
        </section>,
      );
    } catch (error) {
      failed.push(`${panel.title}: ${error.stack}`);
    }
  }
  const bottom = Math.max(...board.panels.map(({ gridPos: { y, h } }) => y + h)) * ROW_PX;
  const holder = document.getElementById("board");
  holder.style.height = `${bottom}px`;
  createRoot(holder, { onUncaughtError: (error) => failed.push(String(error.stack)) }).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventsScope: "board", eventBus: SILENT, sync: () => 0 }}>
        {drawn}
      </PanelContextProvider>
    </ThemeContext.Provider>,
  );
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return failed;
}

const SILENT = {
  publish: () => {},
  getStream: () => ({
    subscribe: () => ({ unsubscribe: () => {} }),
    pipe: () => ({ subscribe: () => ({ unsubscribe: () => {} }) }),
  }),
  subscribe: () => ({ unsubscribe: () => {} }),
  removeAllListeners: () => {},
  newScopedBus: () => SILENT,
};

window.draw = draw;
