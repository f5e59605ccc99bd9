/** A ZIP archive of a few files, made in the browser: stored, since pictures are compressed already. */

const encoder = new TextEncoder();
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** The archive of `[{name, data}]` as a Blob; `data` are Uint8Arrays, 4 GB at most together. */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, data } of files) {
    const path = encoder.encode(name);
    // Version, flags (names are UTF-8), method "stored", time, date (1 January 1980), checksum and sizes.
    const about = fields([20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [checksum(data), 4], [data.length, 4], [data.length, 4], [path.length, 2], [0, 2]);
    parts.push(fields([0x04034b50, 4]), about, path, data);
    directory.push(fields([0x02014b50, 4], [20, 2]), about, fields([0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), path);
    offset += 4 + about.length + path.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields([0x06054b50, 4], [0, 4], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Numbers of so many bytes each, the lowest first. */
function fields(...pairs) {
  return Uint8Array.from(pairs.flatMap(([value, bytes]) => Array.from({ length: bytes }, (_, place) => (value >>> (8 * place)) & 0xff)));
}

function checksum(data) {
  let value = 0xffffffff;
  for (const byte of data) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
