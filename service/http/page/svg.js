// What charts are drawn with: elements of SVG, and paths through points.

const NAMESPACE = "http://www.w3.org/2000/svg";

/** @typedef {[number, number]} Point */

/**
 * @param {string} kind
 * @param {Record<string, string | number>} attributes
 * @param {string} words
 */
export function drawn(kind, attributes = {}, words = "") {
  const made = document.createElementNS(NAMESPACE, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (words) made.textContent = words;
  return made;
}

/** @param {number} value pixels: a tenth is enough */
export const round = (value) => Math.round(10 * value) / 10;

/**
 * Broken where there is no point.
 * @param {(Point | null)[]} points
 */
export function path(points) {
  let pen = "M";
  let made = "";
  for (const point of points) {
    if (point) made += `${pen}${round(point[0])} ${round(point[1])}`;
    pen = point ? "L" : "M";
  }
  return made;
}

/**
 * What lies between two edges, broken where either has no point.
 * @param {(Point | null)[]} upper
 * @param {(Point | null)[]} lower as many
 */
export function area(upper, lower) {
  let made = "";
  for (let begin = 0; begin < upper.length; begin += 1) {
    let end = begin;
    while (end < upper.length && upper[end] && lower[end]) end += 1;
    if (end > begin) made += `${path([...upper.slice(begin, end), ...lower.slice(begin, end).reverse()])}Z`;
    begin = end;
  }
  return made;
}

/**
 * Of the points in one column of pixels those that are seen: the first, the lowest, the highest and the last.
 * @param {(Point | null)[]} points from left to right
 */
export function thinned(points) {
  /** @type {(Point | null)[]} */
  const kept = [];
  /** @type {Point[]} */
  let column = [];
  const end = () => {
    const ups = column.map(([, y]) => y);
    const seen = new Set([0, ups.indexOf(Math.min(...ups)), ups.indexOf(Math.max(...ups)), column.length - 1]);
    kept.push(...column.filter((_, n) => seen.has(n)));
    column = [];
  };
  for (const point of points) {
    if (column.length && (point === null || Math.floor(point[0]) !== Math.floor(column[0][0]))) end();
    if (point === null) kept.push(null);
    else column.push(point);
  }
  if (column.length) end();
  return kept;
}
