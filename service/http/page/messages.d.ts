// Made from the service's structs by tests/service/http/messages.py: what the service tells the page.

export interface Acknowledgement {
  type: "acknowledgement";
  by: string;
  at: string;
  note?: string;
  incident: string;
}

export interface Anomaly {
  anomaly: string;
  stream: string;
  status: string;
  severity: string;
  kind: string;
  closed_as: string | null;
  score: number;
  peak: number;
  opened_at: string;
  closed_at: string | null;
  channels: Channel[];
  return_period_s: number;
  witnesses: Record<string, number>;
  checkpoint: string;
  topic: string;
  partition: number;
  offset: number;
  index?: number;
  kind_probability?: number;
  opened_by?: string;
  began_at?: string;
  labels?: Record<string, string>;
}

export interface Channel {
  name: string;
  observed: number | null;
  expected: number | null;
  lower: number | null;
  upper: number | null;
  share: number;
  unit?: string;
}

export interface ControlSeen {
  control: string;
  given: Quiet | Dependency | Holds | Acknowledgement | Label | PromotedModel;
}

export interface ControlsFound {
  followed: boolean;
  may_write: boolean;
  found: number;
  controls: ControlSeen[];
}

export interface Dependency {
  type: "dependency";
  by: string;
  at: string;
  note?: string;
  streams: string[];
  on: string[];
  reason: string;
  learn?: boolean;
}

export interface Event {
  specversion: string;
  id: string;
  source: string;
  type: string;
  subject: string;
  time: string;
  datacontenttype: string;
  data: Anomaly;
}

export interface Example {
  stream: string;
  kind: string;
  channel: string;
  severity: string;
  opened_at: string;
  return_period_s?: number;
}

export interface FirstCause {
  anomaly: string;
  stream: string;
  kind: string;
  opened_at: string;
}

export interface GateSeen {
  name: string;
  mean: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  units?: ((number | null)[])[];
}

export interface HealthSummary {
  version: string;
  state: string;
  ready: boolean;
  reason: string;
  started_ms: number;
  published_ms: number;
  beat_age_s: number;
  checkpoint: string;
  models: Record<string, string>;
  features: string[];
  partitions: number;
  partitions_ready: number;
  topics: string[];
  lag: number | null;
  event_time_ms: number | null;
  streams: number;
  judged: number;
  warming: number;
  anomalies_open: number;
  readings: number;
  rejected: number;
  rejected_by_reason: Record<string, number>;
  many_rejected: boolean;
  late: number;
  duplicate: number;
  events: number;
}

export interface Holds {
  type: "holds";
  by: string;
  at: string;
  note?: string;
  dependency: string;
}

export interface IncidentSeen {
  incident: string;
  group: string;
  status: string;
  severity: string;
  streams: number;
  anomalies: number;
  open_anomalies: number;
  opened_at: string;
  closed_at: string | null;
  held_back: string | null;
  acknowledged_by: string | null;
  acknowledged_at: string | null;
  peak: number;
  first_cause: FirstCause;
  return_period_s: number;
}

export interface IncidentsFound {
  followed: boolean;
  found: number;
  open: IncidentSeen[];
  closed: IncidentSeen[];
}

export interface Label {
  type: "label";
  by: string;
  at: string;
  note?: string;
  label: string;
  anomaly?: string | null;
  streams?: string[] | null;
  from?: string | null;
  until?: string | null;
  rule?: string | null;
  examples?: Example[];
  time_zone?: string;
}

export interface LayerSeen {
  gates: GateSeen[];
  memory: (number | null)[];
  change: (number | null)[];
}

export interface MembersFound {
  incident: IncidentSeen;
  members: NamedMember[];
  members_left_out: number;
}

export interface NamedMember {
  anomaly: string;
  stream: string;
  status: string;
  severity: string;
  kind: string;
  opened_at: string;
  closed_as: string | null;
  label: string | null;
  channel: string;
  return_period_s: number;
  rule: string | null;
}

export type Older = "gone" | "kept" | "none";

export interface OpenAlarm {
  anomaly: string;
  severity: string;
  opened_at: string;
  opened_by: string;
  peak: number;
  readings: number;
}

export interface OpenAnomalies {
  made_at: string;
  found: number;
  anomalies: OpenAnomaly[];
}

export interface OpenAnomaly {
  stream: StreamSeen;
  kind: string | null;
  channels: Channel[] | null;
  return_period_s: number | null;
}

export interface PastSeen {
  trace: TraceSeen;
  older: Older;
  newer: boolean;
  events: Event[];
  remarks: string[];
}

export interface PromotedModel {
  type: "model";
  by: string;
  at: string;
  note?: string;
  checkpoint: string;
  sha256: string;
  topic?: string | null;
}

export interface Quiet {
  type: "quiet";
  by: string;
  at: string;
  note?: string;
  streams: string[];
  reason: string;
  from?: string | null;
  until?: string | null;
  cron?: string | null;
  lasts_s?: number | null;
  time_zone?: string;
  learn?: boolean;
}

export interface ReadingSeen {
  offset: number;
  time: string;
  fate: string;
  values: (number | null)[];
  expected: (number | null)[];
  lower: (number | null)[];
  upper: (number | null)[];
  score: number;
  alarm: boolean;
}

export interface Recent {
  anomalies: Event[];
}

export interface StreamSeen {
  stream: string;
  topic: string;
  partition: number;
  score: number | null;
  time: string | null;
  readings: number;
  alarm: OpenAlarm | null;
}

export interface StreamsFound {
  made_at: string;
  held: number;
  found: number;
  streams: StreamSeen[];
}

export interface TraceSeen {
  stream: string;
  checkpoint: string;
  topic: string;
  partition: number;
  features: string[];
  units: (string | null)[];
  reset: boolean;
  readings: ReadingSeen[];
  layers: LayerSeen[];
}
