// What Grafana's own schema says of a dashboard that is written as JSON. An enumeration's values are plain strings there.

import type { AnnotationQuery, Dashboard, DataQuery, Panel, RowPanel } from "@grafana/schema";
import type * as BarGauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as Stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as Table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as Text from "@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen";
import type * as TimeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Json<T> = T extends string
  ? `${T}`
  : T extends readonly (infer Item)[]
    ? Json<Item>[]
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

// The schema's package leaves open what a panel of a kind, a Prometheus query and its annotation have beside the rest.
type Query = DataQuery & {
  expr: string;
  editorMode?: "code";
  legendFormat?: string;
  instant?: boolean;
  range?: boolean;
  format?: "table" | "heatmap" | "time_series";
};
type Annotation = AnnotationQuery & { expr: string; titleFormat: string; textFormat?: string };
type Kind<Name extends string, Options, Custom = never> = Omit<
  Panel,
  "type" | "options" | "fieldConfig" | "targets"
> & {
  type: Name;
  options: Partial<Options>;
  targets?: Query[];
  fieldConfig?: Omit<NonNullable<Panel["fieldConfig"]>, "defaults"> & {
    defaults: Omit<NonNullable<Panel["fieldConfig"]>["defaults"], "custom"> & { custom?: Partial<Custom> };
  };
};

export type Board = Json<
  Omit<Dashboard, "panels" | "annotations"> & {
    annotations: { list: Annotation[] };
    panels: (
      | RowPanel
      | Kind<"bargauge", BarGauge.Options>
      | Kind<"stat", Stat.Options>
      | Kind<"table", Table.Options, Table.FieldConfig>
      | Kind<"text", Text.Options>
      | Kind<"timeseries", TimeSeries.Options, TimeSeries.FieldConfig>
    )[];
  }
>;
