// Reads the code of a ticket in a picture, where a browser has no BarcodeDetector.
//
// It reads what `picture_of` draws and no more: QR codes of level M in bytes, of any version and
// mask. From the picture to the text: dark and light, three eyes, the grid between them, its bits,
// their errors mended, the bytes. What is no whole code is null; nothing is guessed.

// Of each version, how many bytes of a block mend the others, and how many blocks it has (level M).
const MENDING = [0, 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, ...Array(19).fill(28)];
const BLOCKS = [0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37, 38, 40, 43, 45, 47, 49];
const LEVEL_M = 0;
const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2, (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];
// As many places that look like an eye as are tried with each other; print has more than three.
const EYES_MAX = 7;
const TRIES_MAX = 6;
// What a pixel must be below the light around it. A screen's glare is lighter, paper's shade darker.
const DARKER = 0.87;

/** Call this with an `ImageData`; gives the text of the one code in it, or null. */
export function read(picture) {
  const dark = darkOf(picture);
  const eyes = eyesIn(dark);
  for (const three of threes(eyes).slice(0, TRIES_MAX)) {
    const text = readBetween(dark, three);
    if (text !== null) return text;
  }
  return null;
}

// ---- dark and light ------------------------------------------------------------------------------

function darkOf({ data, width, height }) {
  const grey = new Uint8Array(width * height);
  for (let at = 0; at < grey.length; at++) {
    grey[at] = (data[4 * at] * 77 + data[4 * at + 1] * 151 + data[4 * at + 2] * 28) >> 8;
  }
  // Sums of all that is above and left: the light around any pixel is four look-ups.
  const wide = width + 1;
  const sums = new Uint32Array(wide * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      row += grey[y * width + x];
      sums[(y + 1) * wide + x + 1] = sums[y * wide + x + 1] + row;
    }
  }
  const reach = Math.max(8, Math.min(width, height) >> 4);
  const bits = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const [top, bottom] = [Math.max(0, y - reach), Math.min(height, y + reach + 1)];
    for (let x = 0; x < width; x++) {
      const [left, right] = [Math.max(0, x - reach), Math.min(width, x + reach + 1)];
      const around = sums[bottom * wide + right] - sums[top * wide + right] - sums[bottom * wide + left] + sums[top * wide + left];
      bits[y * width + x] = grey[y * width + x] * (bottom - top) * (right - left) < around * DARKER ? 1 : 0;
    }
  }
  return { bits, width, height, at: (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? bits[y * width + x] : 0) };
}

// ---- the three eyes in its corners ---------------------------------------------------------------

// Dark, light, dark, light, dark as 1:1:3:1:1, along any line through an eye's middle.
function isEye(runs) {
  const unit = (runs[0] + runs[1] + runs[2] + runs[3] + runs[4]) / 7;
  const off = (run, wanted) => Math.abs(run - wanted * unit) > wanted * unit * (wanted > 1 ? 0.4 : 0.65);
  return unit >= 1 && !runs.some((run, at) => off(run, at === 2 ? 3 : 1));
}

// From a dark pixel both ways: the five runs, and how far the middle one's own middle is.
function across(dark, x, y, dx, dy) {
  const count = (from, way, isDark, atMost) => {
    let found = 0;
    while (found <= atMost && dark.at(x + dx * way * (from + found), y + dy * way * (from + found)) === isDark) found++;
    return found;
  };
  const most = Math.max(dark.width, dark.height) >> 2;
  const [up, down] = [count(0, -1, 1, most), count(1, 1, 1, most)];
  const [upLight, downLight] = [count(up, -1, 0, most), count(down + 1, 1, 0, most)];
  const [upDark, downDark] = [count(up + upLight, -1, 1, most), count(down + 1 + downLight, 1, 1, most)];
  const runs = [upDark, upLight, up + down, downLight, downDark];
  return isEye(runs) ? { shift: (down - up + 1) / 2, unit: runs.reduce((sum, run) => sum + run) / 7 } : null;
}

function eyesIn(dark) {
  const eyes = [];
  for (let y = 0; y < dark.height; y += 2) {
    const runs = [0, 0, 0, 0, 0];
    let before = 0;
    for (let x = 0; x <= dark.width; x++) {
      const now = x < dark.width ? dark.bits[y * dark.width + x] : 1 - before;
      if (now === before) {
        runs[4]++;
        continue;
      }
      if (before && isEye(runs)) noteEye(dark, eyes, x - runs[4] - runs[3] - runs[2] / 2, y);
      runs.shift();
      runs.push(1);
      before = now;
    }
  }
  return eyes.sort((one, other) => other.seen - one.seen).slice(0, EYES_MAX);
}

function noteEye(dark, eyes, x, y) {
  const down = across(dark, Math.floor(x), y, 0, 1);
  if (!down) return;
  const middle = y + down.shift;
  const along = across(dark, Math.floor(x), Math.floor(middle), 1, 0);
  if (!along || !across(dark, Math.floor(x), Math.floor(middle), 1, 1)) return;
  const [found, unit] = [{ x: Math.floor(x) + along.shift, y: middle }, (down.unit + along.unit) / 2];
  const known = eyes.find((eye) => Math.hypot(eye.x - found.x, eye.y - found.y) < 3 * unit);
  if (!known) {
    eyes.push({ ...found, unit, seen: 1 });
    return;
  }
  // What is seen on several lines is in the middle of them.
  for (const [name, value] of Object.entries({ ...found, unit })) {
    known[name] = (known[name] * known.seen + value) / (known.seen + 1);
  }
  known.seen++;
}

// Each three of them as a corner and its two ends, the likeliest first.
function threes(eyes) {
  const found = [];
  for (const corner of eyes) {
    for (const right of eyes) {
      for (const below of eyes) {
        if (corner === right || corner === below || right === below) continue;
        const [ax, ay, bx, by] = [right.x - corner.x, right.y - corner.y, below.x - corner.x, below.y - corner.y];
        const turn = ax * by - ay * bx; // clockwise, as a code is that nobody has mirrored
        const [a, b] = [Math.hypot(ax, ay), Math.hypot(bx, by)];
        if (turn < 0.6 * a * b) continue;
        const units = [corner.unit, right.unit, below.unit];
        const odd = Math.abs(a - b) / Math.max(a, b) + (1 - turn / (a * b)) + 1 - Math.min(...units) / Math.max(...units);
        if (odd < 1) found.push({ corner, right, below, odd });
      }
    }
  }
  return found.sort((one, other) => one.odd - other.odd);
}

// ---- the grid between them -----------------------------------------------------------------------

function readBetween(dark, three) {
  for (const version of versionsOf(dark, three)) {
    for (const grid of grids(dark, three, 17 + 4 * version)) {
      const text = textOf(sampled(dark, grid, 17 + 4 * version), version);
      if (text !== null) return text;
    }
  }
  return null;
}

// Between two eyes runs a line of dark and light squares in turn: as many as it has, however tilted.
function versionsOf(dark, { corner, right, below }) {
  const counted = [changesTo(dark, corner, right, below), changesTo(dark, corner, below, right)];
  const versions = counted.map((changes) => Math.round((changes + 13 - 17) / 4));
  return [...new Set(versions)].filter((version) => version >= 1 && version <= 40);
}

function changesTo(dark, corner, end, beside) {
  const towards = (from, to) => {
    const [x, y] = [to.x - from.x, to.y - from.y];
    // Eyes are measured along the picture's lines, which cross one that is turned at length.
    const most = Math.max(Math.abs(x), Math.abs(y)) / Math.hypot(x, y) ** 2;
    return { x: x * most, y: y * most };
  };
  const [along, aside] = [towards(corner, end), towards(corner, beside)];
  const place = (eye, way) => ({ x: eye.x + 3 * eye.unit * (way * along.x + aside.x), y: eye.y + 3 * eye.unit * (way * along.y + aside.y) });
  const [begin, finish] = [place(corner, 1), place(end, -1)];
  const steps = Math.ceil(Math.hypot(finish.x - begin.x, finish.y - begin.y));
  let [changes, before] = [0, 1];
  for (let step = 0; step <= steps; step++) {
    const at = { x: begin.x + ((finish.x - begin.x) * step) / steps, y: begin.y + ((finish.y - begin.y) * step) / steps };
    let votes = 0;
    for (const off of [-1, 0, 1]) votes += dark.at(Math.floor(at.x + off * aside.x), Math.floor(at.y + off * aside.y));
    const now = votes > 1 ? 1 : 0;
    if (now !== before) changes++;
    before = now;
  }
  return changes;
}

// How the grid lies in the picture: by the small eye near its fourth corner, or without it.
function grids(dark, { corner, right, below }, side) {
  const eyes = [[3.5, 3.5, corner], [side - 3.5, 3.5, right], [3.5, side - 3.5, below]];
  // What is farther is smaller, once along the tilt and twice across it.
  const [far, farRight, farBelow] = [corner, right, below].map((eye) => eye.unit ** (-2 / 3));
  const sum = farRight + farBelow - far;
  const fourth = (name) => (right[name] * farRight + below[name] * farBelow - corner[name] * far) / sum;
  const guessed = gridBy([...eyes, [side - 3.5, side - 3.5, { x: fourth("x"), y: fourth("y") }]]);
  if (side === 21) return [guessed];
  const small = smallEye(dark, guessed, side - 6.5);
  return small ? [gridBy([...eyes, [side - 6.5, side - 6.5, small]]), guessed] : [guessed];
}

// Where the five by five of a small eye fits best; a code that is tilted has it elsewhere.
function smallEye(dark, grid, middle) {
  let best = null;
  const reach = Math.max(3, middle / 8);
  for (let v = -reach; v <= reach; v += 0.5) {
    for (let u = -reach; u <= reach; u += 0.5) {
      let fits = 0;
      for (let down = -2; down <= 2; down++) {
        for (let along = -2; along <= 2; along++) {
          const { x, y } = grid(middle + u + along, middle + v + down);
          const ring = Math.max(Math.abs(along), Math.abs(down));
          if (dark.at(Math.floor(x), Math.floor(y)) === (ring === 1 ? 0 : 1)) fits++;
        }
      }
      if (fits < 22) continue;
      const far = u * u + v * v;
      if (!best || fits > best.fits || (fits === best.fits && far < best.far)) best = { u, v, fits, far, sum: [0, 0, 0] };
      // Several places beside each other fit alike: it is in their middle.
      if (best.fits === fits && Math.hypot(u - best.u, v - best.v) < 1.5) {
        best.sum = [best.sum[0] + u, best.sum[1] + v, best.sum[2] + 1];
      }
    }
  }
  return best && grid(middle + best.sum[0] / best.sum[2], middle + best.sum[1] / best.sum[2]);
}

// The one way to see a flat square so that four of its points lie where they were found.
function gridBy(points) {
  const rows = [];
  for (const [u, v, { x, y }] of points) {
    rows.push([u, v, 1, 0, 0, 0, -u * x, -v * x, x], [0, 0, 0, u, v, 1, -u * y, -v * y, y]);
  }
  for (let at = 0; at < 8; at++) {
    let most = at;
    for (let row = at + 1; row < 8; row++) if (Math.abs(rows[row][at]) > Math.abs(rows[most][at])) most = row;
    [rows[at], rows[most]] = [rows[most], rows[at]];
    for (let row = 0; row < 8; row++) {
      if (row === at) continue;
      const factor = rows[row][at] / rows[at][at];
      for (let column = at; column < 9; column++) rows[row][column] -= factor * rows[at][column];
    }
  }
  const [a, b, c, d, e, f, g, h] = rows.map((row, at) => row[8] / row[at]);
  return (u, v) => ({ x: (a * u + b * v + c) / (g * u + h * v + 1), y: (d * u + e * v + f) / (g * u + h * v + 1) });
}

function sampled(dark, grid, side) {
  const bits = [];
  for (let v = 0; v < side; v++) {
    const row = new Uint8Array(side);
    for (let u = 0; u < side; u++) {
      let votes = 0;
      for (const [du, dv] of [[0.5, 0.5], [0.3, 0.5], [0.7, 0.5], [0.5, 0.3], [0.5, 0.7]]) {
        const { x, y } = grid(u + du, v + dv);
        votes += dark.at(Math.floor(x), Math.floor(y));
      }
      row[u] = votes > 2 ? 1 : 0;
    }
    bits.push(row);
  }
  return bits;
}

// ---- from its bits to the text -------------------------------------------------------------------

function textOf(bits, version) {
  const mask = maskOf(bits);
  if (mask === null) return null;
  const bytes = bytesOf(bits, version, MASKS[mask]);
  const [mending, blocks] = [MENDING[version], BLOCKS[version]];
  const short = Math.floor(bytes.length / blocks);
  const longs = bytes.length % blocks; // so many, the last ones, have a byte more
  const found = [];
  for (let block = 0; block < blocks; block++) {
    const isLong = block >= blocks - longs;
    const own = [];
    for (let at = 0; at < short - mending; at++) own.push(bytes[at * blocks + block]);
    if (isLong) own.push(bytes[(short - mending) * blocks + block - (blocks - longs)]);
    for (let at = 0; at < mending; at++) own.push(bytes[bytes.length - mending * blocks + at * blocks + block]);
    if (!mend(own, mending)) return null;
    found.push(...own.slice(0, own.length - mending));
  }
  return said(found, version);
}

// Fifteen bits beside the eyes, twice, say level and mask; of those that could be, the nearest.
function maskOf(bits) {
  const last = bits.length - 1;
  let [one, other] = [0, 0];
  for (let at = 0; at < 15; at++) {
    const upper = at < 6 ? [8, at] : at < 8 ? [8, at + 1] : at === 8 ? [7, 8] : [14 - at, 8];
    const lower = at < 8 ? [last - at, 8] : [8, last - 14 + at];
    one |= bits[upper[1]][upper[0]] << at;
    other |= bits[lower[1]][lower[0]] << at;
  }
  let best = { off: 4, told: -1 };
  for (let told = 0; told < 32; told++) {
    let rest = told;
    for (let step = 0; step < 10; step++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const whole = ((told << 10) | rest) ^ 0x5412;
    for (const seen of [one, other]) {
      let off = 0;
      for (let differ = whole ^ seen; differ; differ &= differ - 1) off++;
      if (off < best.off) best = { off, told };
    }
  }
  return best.told >> 3 === LEVEL_M && best.told >= 0 ? best.told & 7 : null;
}

// Whether a square is part of the frame and holds no data.
function isFrame(version, side, smalls, x, y) {
  if (x === 6 || y === 6) return true;
  if (x < 9 && (y < 9 || y >= side - 8)) return true;
  if (y < 9 && x >= side - 8) return true;
  if (version >= 7 && ((x < 6 && y >= side - 11) || (y < 6 && x >= side - 11))) return true;
  return smalls.some(([u, v]) => Math.abs(u - x) <= 2 && Math.abs(v - y) <= 2);
}

function smallEyes(version, side) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = version === 32 ? 26 : Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
  const places = [6];
  for (let at = 0; at < count - 1; at++) places.push(side - 7 - (count - 2 - at) * step);
  const isEyes = (x, y) => (x === 6 && (y === 6 || y === side - 7)) || (y === 6 && x === side - 7);
  return places.flatMap((x) => places.map((y) => [x, y])).filter(([x, y]) => !isEyes(x, y));
}

// Up and down in columns of two, from the right.
function bytesOf(bits, version, mask) {
  const side = bits.length;
  const smalls = smallEyes(version, side);
  const bytes = [];
  let [byte, count] = [0, 0];
  for (let right = side - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < side; step++) {
      const y = (right + 1) & 2 ? step : side - 1 - step;
      for (const x of [right, right - 1]) {
        if (isFrame(version, side, smalls, x, y)) continue;
        byte = (byte << 1) | (bits[y][x] ^ (mask(x, y) === 0 ? 1 : 0));
        if (++count % 8 === 0) [byte] = [bytes.push(byte) * 0];
      }
    }
  }
  return bytes;
}

// Reed and Solomon's code over the 256 numbers of x^8 + x^4 + x^3 + x^2 + 1.
const POWERS = new Uint8Array(512);
const LOGS = new Uint8Array(256);
for (let at = 0, value = 1; at < 255; at++) {
  POWERS[at] = POWERS[at + 255] = value;
  LOGS[value] = at;
  value = (value << 1) ^ (value & 128 ? 0x11d : 0);
}
const times = (a, b) => (a && b ? POWERS[LOGS[a] + LOGS[b]] : 0);
const over = (a, b) => (a ? POWERS[LOGS[a] + 255 - LOGS[b]] : 0);
const valueAt = (terms, x) => terms.reduceRight((sum, term) => times(sum, x) ^ term, 0); // lowest first

function syndromes(bytes, count) {
  return Array.from({ length: count }, (_, power) => bytes.reduce((sum, byte) => times(sum, POWERS[power]) ^ byte, 0));
}

/** Mends a block where it stands; false where it has more errors than that can mend. */
function mend(bytes, mending) {
  const found = syndromes(bytes, mending);
  if (found.every((one) => one === 0)) return true;
  // Berlekamp and Massey: the shortest rule that the syndromes follow tells where errors are.
  let [rule, before, length, gap, last] = [[1], [1], 0, 1, 1];
  for (let at = 0; at < mending; at++) {
    let wrong = found[at];
    for (let term = 1; term <= length; term++) wrong ^= times(rule[term] ?? 0, found[at - term]);
    if (wrong === 0) {
      gap++;
      continue;
    }
    const [kept, factor] = [[...rule], over(wrong, last)];
    before.forEach((term, place) => (rule[place + gap] = (rule[place + gap] ?? 0) ^ times(factor, term)));
    for (let place = 0; place < rule.length; place++) rule[place] ??= 0;
    if (2 * length <= at) [length, before, last, gap] = [at + 1 - length, kept, wrong, 1];
    else gap++;
  }
  if (2 * length > mending) return false;
  // Forney: how wrong each of those is.
  const values = Array.from({ length: mending }, (_, at) => rule.reduce((sum, term, place) => sum ^ (place <= at ? times(term, found[at - place]) : 0), 0));
  const slopes = rule.slice(1).map((term, at) => (at % 2 ? 0 : term));
  let mended = 0;
  for (let at = 0; at < bytes.length; at++) {
    const power = bytes.length - 1 - at;
    const inverse = POWERS[(255 - power) % 255];
    if (valueAt(rule, inverse) !== 0) continue;
    const slope = valueAt(slopes, inverse);
    if (slope === 0) return false;
    bytes[at] ^= times(POWERS[power], over(valueAt(values, inverse), slope));
    mended++;
  }
  return mended === length && syndromes(bytes, mending).every((one) => one === 0);
}

// Bytes alone, which is what letters of both cases are written in.
function said(bytes, version) {
  const bits = (from, count) => {
    let value = 0;
    for (let at = from; at < from + count; at++) value = (value << 1) | ((bytes[at >> 3] >> (7 - (at & 7))) & 1);
    return value;
  };
  const wide = version < 10 ? 8 : 16;
  const count = bits(4, wide);
  if (bits(0, 4) !== 4 || 4 + wide + 8 * count > 8 * bytes.length) return null;
  const text = Uint8Array.from({ length: count }, (_, at) => bits(4 + wide + 8 * at, 8));
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(text);
  } catch {
    return null;
  }
}
