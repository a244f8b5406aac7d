// A mask as levels: 0 keeps the picture, 255 may change. Undo restores the rectangle that a change has touched. No DOM.

const STEPS_MAX = 200;
const STEPS_MAX_BYTES = 64e6;
const INSIDE = 128; // from this level on a pixel counts as painted

export class Mask {
  #before = null; // the levels before the open change
  #touched = null; // {left, top, right, bottom} of the open change
  #dirty = null; // the same, since `takeDirty`
  #share = null; // what `share` has last counted
  #done = []; // {left, top, right, bottom, levels}: `levels` are those to restore
  #undone = [];

  constructor(width, height, levels = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, levels });
    this.#note({ left: 0, top: 0, right: width, bottom: height });
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Open a change. Everything until `end` is undone as one. */
  begin() {
    this.#before = this.levels.slice();
    this.#touched = null;
  }

  end() {
    const box = this.#touched;
    if (box && this.#before) {
      const levels = this.#cut(this.#before, box);
      if (this.#cut(this.levels, box).some((level, at) => level !== levels[at])) {
        this.#done.push({ ...box, levels });
        this.#undone = [];
      }
      while (this.#done.length > STEPS_MAX || bytes(this.#done) > STEPS_MAX_BYTES) this.#done.shift();
    }
    this.#before = null;
  }

  /** Drop the open change. */
  abort() {
    if (this.#before) this.levels = this.#before;
    if (this.#touched) this.#note(this.#touched);
    this.#before = null;
  }

  undo() {
    const step = this.#done.pop();
    if (step) this.#undone.push(this.#exchange(step));
  }

  redo() {
    const step = this.#undone.pop();
    if (step) this.#done.push(this.#exchange(step));
  }

  /** Paint or erase along a line between two points, with a round brush. */
  line(from, to, radius, erase) {
    const reach = radius + 1;
    const box = this.#touch(
      Math.min(from.x, to.x) - reach,
      Math.min(from.y, to.y) - reach,
      Math.max(from.x, to.x) + reach,
      Math.max(from.y, to.y) + reach,
    );
    const [across, down] = [to.x - from.x, to.y - from.y];
    const square = across * across + down * down;
    for (let y = box.top; y < box.bottom; y++) {
      for (let x = box.left; x < box.right; x++) {
        const [dx, dy] = [x + 0.5 - from.x, y + 0.5 - from.y];
        const along = square ? Math.min(1, Math.max(0, (dx * across + dy * down) / square)) : 0;
        const covered = radius + 0.5 - Math.hypot(dx - along * across, dy - along * down);
        if (covered <= 0) continue;
        const level = covered >= 1 ? 255 : Math.round(255 * covered);
        const at = y * this.width + x;
        this.levels[at] = erase ? Math.min(this.levels[at], 255 - level) : Math.max(this.levels[at], level);
      }
    }
  }

  rectangle(left, top, width, height, erase) {
    const box = this.#touch(Math.round(left), Math.round(top), Math.round(left + width), Math.round(top + height));
    for (let y = box.top; y < box.bottom; y++) {
      this.levels.fill(erase ? 0 : 255, y * this.width + box.left, y * this.width + Math.max(box.left, box.right));
    }
  }

  clear() {
    this.#touch(0, 0, this.width, this.height);
    this.levels.fill(0);
  }

  invert() {
    this.#touch(0, 0, this.width, this.height);
    this.levels.forEach((level, at) => (this.levels[at] = 255 - level));
  }

  /** The share of the picture that may change, 0 to 1. */
  share() {
    if (this.#share === null) {
      let sum = 0;
      for (const level of this.levels) sum += level;
      this.#share = sum / (255 * this.levels.length);
    }
    return this.#share;
  }

  /** The levels with an edge that is soft over about `radius` pixels on each side. */
  feathered(radius) {
    if (radius < 1) return this.levels;
    const { width, height } = this;
    const [a, b] = [Uint8Array.from(this.levels), new Uint8Array(width * height)];
    const reach = Math.max(1, Math.round(radius / 2)); // three passes of a box come close to a Gaussian blur
    for (let pass = 0; pass < 3; pass++) {
      for (let y = 0; y < height; y++) blur(a, b, y * width, 1, width, reach);
      for (let x = 0; x < width; x++) blur(b, a, x, width, height, reach);
    }
    return a;
  }

  /** Calls `line(x, y, toX, toY)` for each straight piece of the border between painted and not painted. */
  outline(line) {
    const { width, height, levels } = this;
    const begun = new Int32Array(width + 1).fill(-1); // where the vertical piece at each x begins
    for (let y = 0; y <= height; y++) {
      let start = -1; // of the horizontal piece
      let left = false;
      for (let x = 0; x <= width; x++) {
        const here = x < width && y < height && levels[y * width + x] >= INSIDE;
        const above = x < width && y > 0 && levels[(y - 1) * width + x] >= INSIDE;
        if (here !== above) {
          if (start < 0) start = x;
        } else if (start >= 0) {
          line(start, y, x, y);
          start = -1;
        }
        if (here !== left) {
          if (begun[x] < 0) begun[x] = y;
        } else if (begun[x] >= 0) {
          line(x, begun[x], x, y);
          begun[x] = -1;
        }
        left = here;
      }
    }
  }

  /** The rectangle that has changed since the last call, {left, top, right, bottom}, or null. */
  takeDirty() {
    const dirty = this.#dirty;
    this.#dirty = null;
    return dirty;
  }

  /** Note the rectangle as changed. Returns the part of it inside the mask, in whole pixels. */
  #touch(left, top, right, bottom) {
    const box = {
      left: Math.max(0, Math.floor(left)),
      top: Math.max(0, Math.floor(top)),
      right: Math.min(this.width, Math.ceil(right)),
      bottom: Math.min(this.height, Math.ceil(bottom)),
    };
    if (box.left >= box.right || box.top >= box.bottom) return box;
    this.#touched = around(this.#touched ?? box, box);
    this.#note(box);
    return box;
  }

  #note(box) {
    this.#dirty = around(this.#dirty ?? box, box);
    this.#share = null;
  }

  #cut(levels, { left, top, right, bottom }) {
    const cut = new Uint8Array((right - left) * (bottom - top));
    for (let y = top; y < bottom; y++) {
      cut.set(levels.subarray(y * this.width + left, y * this.width + right), (y - top) * (right - left));
    }
    return cut;
  }

  /** Restore a step's rectangle. Returns the step that restores what was there. */
  #exchange(step) {
    const { left, top, right, bottom } = step;
    const levels = this.#cut(this.levels, step);
    for (let y = top; y < bottom; y++) {
      const row = step.levels.subarray((y - top) * (right - left), (y - top + 1) * (right - left));
      this.levels.set(row, y * this.width + left);
    }
    this.#note(step);
    return { ...step, levels };
  }
}

const around = (a, b) => ({
  left: Math.min(a.left, b.left),
  top: Math.min(a.top, b.top),
  right: Math.max(a.right, b.right),
  bottom: Math.max(a.bottom, b.bottom),
});

const bytes = (steps) => steps.reduce((sum, step) => sum + step.levels.length, 0);

/** Write the mean of the `2 * reach + 1` values around each value of a row or column. The ends count on. */
function blur(from, to, start, step, count, reach) {
  const value = (at) => from[start + step * Math.min(count - 1, Math.max(0, at))];
  let sum = 0;
  for (let at = -reach; at <= reach; at++) sum += value(at);
  for (let at = 0; at < count; at++) {
    to[start + step * at] = Math.round(sum / (2 * reach + 1));
    sum += value(at + reach + 1) - value(at - reach);
  }
}
