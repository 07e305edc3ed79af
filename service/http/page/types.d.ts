// What the page's modules hand each other, and what the service answers: for the type checker alone, never served.

import type * as Messages from "./messages.d.ts";

/** A place in the page, as its address names it. */
export type Place = {
  stream: string | null;
  /** The time around which the past is shown, in milliseconds; null: what is live. */
  at: number | null;
  /** How many readings of the past. */
  readings: number | null;
  /** The anomaly that was asked for. */
  anomaly: string | null;
  /** The incident that was asked for, whose first cause it is. */
  incident: string | null;
};

export type Summary = Messages.HealthSummary;
export type Stream = Messages.StreamSeen;
export type Channel = Messages.Channel;
export type OpenAnomaly = Messages.OpenAnomaly;
export type AnomalyData = Messages.Anomaly;
export type AnomalyEvent = Messages.Event;
export type Incident = Messages.IncidentSeen;
export type IncidentsFound = Messages.IncidentsFound;
export type Member = Messages.NamedMember;
export type MembersFound = Messages.MembersFound;
export type ControlSeen = Messages.ControlSeen;
export type Control = ControlSeen["given"];
export type ControlsFound = Messages.ControlsFound;
export type Example = Messages.Example;
/** What a label says of later anomalies. */
export type Rule = { rule: string; examples: Example[]; time_zone: string };
/** A control as it is given: the service says when. */
export type NewControl = Unstamped<Control>;
type Unstamped<C> = C extends Control ? Omit<C, "at"> : never;
/** What a control can be about: an incident, or one stream with the anomaly that is shown of it. */
export type Target = { incident: Incident | null; stream: string; anomaly: string | null; opened_at: string | null };
/** What a person can say of it. */
export type Saying = "acknowledge" | "mute" | "label" | "depend";
export type Reading = Messages.ReadingSeen;
export type Gate = Pick<Messages.GateSeen, "name" | "mean">;
export type Layer = { gates: Gate[]; memory: Gate["mean"] };
export type Traced = Omit<Messages.TraceSeen, "layers"> & { layers: Layer[] };
export type Looked = Messages.PastSeen;
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

export type Action =
  | "search"
  | "next"
  | "previous"
  | "earlier"
  | "later"
  | "now"
  | "list"
  | "theme"
  | "help"
  | Exclude<Saying, "depend">;
