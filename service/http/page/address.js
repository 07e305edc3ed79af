// The part of the page's address behind #: a stream, and what of it is shown. STREAM shows what is live;
// STREAM&at=TIME&readings=COUNT&anomaly=ID the past around a time, with that anomaly; &incident=ID as the first cause of
// that incident.

/** @typedef {import("./types.d.ts").Place} Place */

const LONGEST_STREAM = 256; // bytes
const NAME_SHOWN = 60; // characters of an address that names no stream
const MOST_READINGS = 5000;

/** @param {Partial<Place> & { stream: string }} place */
export function written({ stream, at = null, readings = null, anomaly = null, incident = null }) {
  const parts = [encodeURIComponent(stream)];
  if (at !== null) parts.push(`at=${new Date(at).toISOString()}`);
  if (at !== null && readings !== null) parts.push(`readings=${readings}`);
  if (at !== null && anomaly !== null) parts.push(`anomaly=${encodeURIComponent(anomaly)}`);
  if (at !== null && incident !== null) parts.push(`incident=${encodeURIComponent(incident)}`);
  return `#${parts.join("&")}`;
}

/**
 * @param {string} hash
 * @returns {Place & { excuse?: string }} each of them null where it is not there. excuse: what is wrong with the address
 */
export function named(hash) {
  const nothing = { stream: null, at: null, readings: null, anomaly: null, incident: null };
  const encoded = hash.slice(1);
  const shown = encoded.length > NAME_SHOWN ? `${encoded.slice(0, NAME_SHOWN)}…` : encoded;
  const [name, ...rest] = encoded.split("&");
  /** @type {string} */
  let stream;
  /** @type {Record<string, string>} */
  let fields;
  try {
    stream = decodeURIComponent(name);
    fields = Object.fromEntries(
      rest.map((part) => part.split(/=(.*)/s, 2).map((text) => decodeURIComponent(text ?? ""))),
    );
  } catch {
    return {
      ...nothing,
      excuse: `This page's address ends with #${shown}, which is not a stream's name as an address writes it.`,
    };
  }
  if (new TextEncoder().encode(stream).length > LONGEST_STREAM) {
    return {
      ...nothing,
      excuse: `This page's address names a stream of more than ${LONGEST_STREAM} bytes: #${shown}. No stream has a name that long.`,
    };
  }
  if (!stream) return nothing;
  return { ...nothing, stream, ...placeOf(fields, shown) };
}

/**
 * @param {Record<string, string | undefined>} fields
 * @param {string} shown
 * @returns {{ excuse: string } | Partial<Place>}
 */
function placeOf({ at, readings, anomaly, incident }, shown) {
  if (at === undefined) return {};
  const time = Date.parse(at);
  if (Number.isNaN(time)) {
    return {
      excuse: `This page's address ends with #${shown}, whose time is none: it is expected as 2026-01-20T09:26:00Z.`,
    };
  }
  const count = Number.parseInt(readings ?? "", 10);
  return {
    at: Math.max(0, time),
    readings: Number.isNaN(count) ? null : Math.min(MOST_READINGS, Math.max(2, count)),
    anomaly: anomaly || null,
    incident: incident || null,
  };
}
