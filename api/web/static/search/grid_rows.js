/** Justified rows of images, computed from the images' sizes alone. */

const GAP = 12;
export const CAPTION_HEIGHT = 46; // as .caption has it in search.css
export const LINE_HEIGHT = 44; // as .certainty-line has it in search.css
const MIN_RATIO = 0.45;
const MAX_RATIO = 3;

/**
 * Rows for `items` from `first` on: `{top, height, cells: [{index, left, width}]}`; heights without caption. A row
 * ends before the item `line`, and what follows leaves room for one.
 */
export function layOutRows(items, { width, target, line = null, first = 0, top = 0 }) {
  const rows = [];
  let row = [];
  let ratios = 0;
  const close = (height) => {
    let left = 0;
    const cells = row.map(({ index, ratio }) => {
      const cell = { index, left, width: ratio * height };
      left += cell.width + GAP;
      return cell;
    });
    rows.push({ top, height, cells });
    top += height + CAPTION_HEIGHT + GAP;
    row = [];
    ratios = 0;
  };
  // A row that does not fill up keeps the usual height instead of growing to the window's width.
  const closeUnfilled = () => row.length && close(Math.min(target, (width - GAP * (row.length - 1)) / ratios));
  for (let index = first; index < items.length; index++) {
    if (index === line && index > first) {
      closeUnfilled();
      top += LINE_HEIGHT;
    }
    const ratio = Math.min(MAX_RATIO, Math.max(MIN_RATIO, items[index].width / items[index].height || 1));
    row.push({ index, ratio });
    ratios += ratio;
    const height = (width - GAP * (row.length - 1)) / ratios;
    if (height <= target) close(height);
  }
  closeUnfilled();
  return { rows, height: top };
}

/** The usual height of a row in a grid of this width. */
export const targetHeight = (width) => (width < 600 ? 132 : width < 1100 ? 176 : 200);

/** The number of the first row that ends below `y`. */
export function rowAt(rows, y) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height + CAPTION_HEIGHT < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The number of the row with an item. */
export const rowOf = (rows, index) => rows.findIndex((row) => row.cells.at(-1).index >= index);

/** The item `step` rows further down whose middle is nearest; the same one where there is no such row. */
export function itemBelow(rows, index, step) {
  const number = rowOf(rows, index);
  const row = rows[number + step];
  if (!row) return index;
  const own = rows[number].cells.find((cell) => cell.index === index);
  const middle = own.left + own.width / 2;
  const distance = (cell) => Math.abs(cell.left + cell.width / 2 - middle);
  return row.cells.reduce((best, cell) => (distance(cell) < distance(best) ? cell : best)).index;
}
