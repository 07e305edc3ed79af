// What the page's modules hand each other, and what the service answers: for the type checker alone, never served.

/** An instant as the service writes it: RFC 3339. */
export type Instant = string;

/** A place in the page, as its address names it. */
export type Place = {
  stream: string | null;
  /** The time around which the past is shown, in milliseconds; null: what is live. */
  at: number | null;
  /** How many readings of the past. */
  readings: number | null;
  /** The anomaly that was asked for. */
  anomaly: string | null;
};

export type Summary = {
  state: "starting" | "running" | "stopping" | "stopped";
  ready: boolean;
  reason: string;
  version: string;
  checkpoint: string;
  topics: string[];
  started_ms: number;
  published_ms: number;
  beat_age_s: number;
  event_time_ms: number | null;
  partitions: number;
  partitions_ready: number;
  streams: number;
  judged: number;
  warming: number;
  anomalies_open: number;
  lag: number | null;
  readings: number;
  late: number;
  duplicate: number;
  rejected: number;
  rejected_by_reason: Record<string, number>;
};

export type Alarm = { anomaly: string; severity: string; peak: number; opened_at: Instant; opened_by: string };
export type Stream = { stream: string; time: Instant | null; score: number | null; alarm: Alarm | null };
export type Channel = { name: string; share: number; observed: number; lower: number; upper: number };
export type OpenAnomaly = {
  stream: Stream & { alarm: Alarm; time: Instant };
  kind: string | null;
  channels: Channel[] | null;
};

export type AnomalyData = {
  anomaly: string;
  severity: string;
  kind: string;
  channels: Channel[];
  opened_at: Instant;
  closed_at: Instant | null;
  closed_as: string | null;
  peak: number;
};
export type AnomalyEvent = { id: string; type: string; subject: string; time: Instant; data: AnomalyData };

export type Reading = {
  offset: number;
  time: Instant;
  fate: string;
  alarm: boolean;
  score: number;
  values: (number | null)[];
  expected: (number | null)[];
  lower: (number | null)[];
  upper: (number | null)[];
};
export type Gate = { name: string; mean: number[] };
export type Traced = {
  stream: string;
  topic: string;
  partition: number;
  features: string[];
  reset?: boolean;
  readings: Reading[];
  layers: { gates: Gate[]; memory: number[] }[];
};

export type Looked = {
  trace: Traced;
  older: "kept" | "gone" | "none";
  newer: boolean;
  events: AnomalyEvent[];
  remarks: string[];
};
export type Progress = { what: "turn" | "state" | "readings"; read: number; of: number };

/** A point on the page's clock: see Since in standing.js. */
export type Elapsed = { readonly ms: number; wall: number };

/** What is not judged, or what to know before trusting the rest. grave: it keeps the page from saying "ready". */
export type Note = { text: string; grave: boolean; line?: string; short?: string };
export type GraveNote = Note & { grave: true; line: string; short: string };

export type State = "ready" | "busy" | "gone" | "waiting";
/** How the service stands: see standing() in standing.js. */
export type Standing = {
  state: State;
  text: string;
  short: string | null;
  items: Note[];
  well: { text: string; whole: boolean } | null;
  fresh: boolean;
};

export type Action = "search" | "next" | "previous" | "earlier" | "later" | "now" | "list" | "theme" | "help";

declare global {
  /** The chart library, a script of its own: what the page takes of it. */
  var Plotly: {
    react(element: HTMLElement, traces: object[], layout: object, config: object): Promise<unknown>;
    purge(element: HTMLElement): void;
  };
}
