/** Parts of pictures: `NAME@left,top,right,bottom` stands for one, each side a share of the picture's, from 0 to 1. */

const PART = /^(.+)@((?:[01](?:\.\d+)?,){3}[01](?:\.\d+)?)$/s;
const DIGITS = 4;

/** The picture that a text is `of`, and the `box` of its part, null for the whole picture. */
export function splitPart(text) {
  const [, of, sides] = PART.exec(text) ?? [];
  return sides ? { of, box: sides.split(",").map(Number) } : { of: text, box: null };
}

export const partOf = (name, box) => `${name}@${box.map((side) => Number(side.toFixed(DIGITS))).join(",")}`;

/** Draws the part `box` of an image in `canvas`, which keeps its shape, as large as there is room. */
export function drawPart(canvas, image, [left, top, right, bottom]) {
  const [x, y] = [left * image.naturalWidth, top * image.naturalHeight];
  const [width, height] = [(right - left) * image.naturalWidth, (bottom - top) * image.naturalHeight];
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const [shownX, shownY] = [(canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2];
  canvas.getContext("2d").drawImage(image, x, y, width, height, shownX, shownY, width * scale, height * scale);
}
