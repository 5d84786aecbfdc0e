// The piano roll: notes over time with the names of their pitches, and under it the style of each passage.

const LEFT = 34, TOP = 6, AXIS = 22, STRIP = 26;  // pixels: names of pitches, air, times, style
const FEWEST = 12;  // pixels that a second is wide, at least, so that long pieces stay readable
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];  // seconds between two times of the axis

export const clock = seconds => {
  const whole = Math.floor(seconds + 1e-6), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
  const two = number => String(number).padStart(2, '0');
  return (hours ? `${hours}:${two(minutes)}` : `${minutes}`) + `:${two(whole % 60)}`;
};

const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// The lowest and highest pitch that are drawn: those of the notes, and one octave at least.
function pitchRange(pitches) {
  const low = pitches.reduce((a, b) => Math.min(a, b), 127), high = pitches.reduce((a, b) => Math.max(a, b), 0);
  const missing = Math.max(12 - (high - low), 2);
  return [low - Math.ceil(missing / 2), high + Math.ceil(missing / 2)];
}

// Draws what is seen from the second `from` on, `scale` pixels a second, into a canvas of this size.
// `music` holds notes, timeline, telling, start (the second of the piece at which the notes begin) and colors.
export function paint(context, {width, height, from, scale}, music) {
  const {notes, start} = music, x = seconds => LEFT + (seconds - from) * scale;
  const [low, high] = pitchRange(notes.pitch);
  const bottom = height - AXIS - (music.timeline.length ? STRIP : 0), row = (bottom - TOP) / (high - low + 1);
  const y = pitch => TOP + (high - pitch) * row, until = from + (width - LEFT) / scale;
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, sans-serif';
  context.textBaseline = 'middle';
  octaves(context, {low, high, y, row, width});
  context.fillStyle = shade('--accent');
  notes.onset_sec.forEach((onset, i) => {
    if (onset > until || onset + notes.duration_sec[i] < from) return;
    context.globalAlpha = 0.45 + 0.55 * notes.velocity[i] / 127;
    const wide = Math.max(notes.duration_sec[i] * scale - 0.6, 1.2);
    context.fillRect(x(onset), y(notes.pitch[i]) + row * 0.08, wide, Math.max(row * 0.84, 1));
  });
  context.globalAlpha = 1;
  times(context, {x, from, until, start, scale, y: bottom + AXIS / 2});
  passages(context, music, {x, y: bottom + AXIS, width});
  context.clearRect(0, 0, LEFT - 2, height);  // notes that began before
  names(context, {low, high, y, row});
}

function octaves(context, {low, high, y, row, width}) {
  context.fillStyle = shade('--line');
  for (let pitch = Math.ceil(low / 12) * 12; pitch <= high; pitch += 12) {
    context.fillRect(LEFT, y(pitch) + row, width, 1);
  }
}

function names(context, {low, high, y, row}) {
  context.fillStyle = shade('--quiet');
  context.textAlign = 'right';
  const every = row * 12 < 14 ? 24 : 12;
  for (let pitch = Math.ceil(low / 12) * 12; pitch <= high; pitch += every) {
    context.fillText(`C${pitch / 12 - 1}`, LEFT - 6, y(pitch) + row / 2);
  }
}

function times(context, {x, from, until, start, scale, y}) {
  const step = STEPS.find(seconds => seconds * scale > 56) ?? STEPS.at(-1);
  context.fillStyle = shade('--quiet');
  context.textAlign = 'left';
  for (let at = Math.ceil((start + from) / step) * step; at <= start + until; at += step) {
    context.fillRect(x(at - start), y - AXIS / 2, 1, 5);
    if (at - start < until - 34 / scale) context.fillText(clock(at), x(at - start) + 3, y);  // else it is cut off
  }
}

function passages(context, {timeline, telling, start, colors}, {x, y, width}) {
  for (const {start_sec, end_sec, composer, probability} of timeline) {
    const left = Math.max(x(start_sec - start), LEFT), wide = Math.min(x(end_sec - start), width) - left;
    if (wide <= 0) continue;
    context.fillStyle = shade(colors[composer]);
    context.globalAlpha = 0.3 + 0.7 * probability;
    context.fillRect(left, y + 2, wide - 1, STRIP - 10);
    context.globalAlpha = 1;
    context.fillStyle = shade('--ink');
    if (telling.some(([begin, end]) => begin <= start_sec && start_sec < end)) {
      context.fillRect(left, y + STRIP - 6, wide - 1, 3);
    }
  }
}

export class Roll {
  #from = 0; #at = 0;

  // `holder` is the element that scrolls; `onSeek` is called with the second that was clicked.
  constructor(holder, music, duration, onSeek) {
    Object.assign(this, {holder, music, duration: Math.max(duration, 0.1), zoomed: 1});
    this.canvas = document.createElement('canvas');
    this.length = document.createElement('div');
    this.length.className = 'length';
    holder.replaceChildren(this.canvas, this.length);
    holder.addEventListener('scroll', () => this.draw());
    this.canvas.addEventListener('click', event => onSeek(this.#second(event.offsetX)));
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(holder);
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.dark.addEventListener('change', this.draw);
  }

  close() {
    this.watch.disconnect();
    this.dark.removeEventListener('change', this.draw);
  }

  // Pixels a second.
  get scale() {
    const whole = (this.holder.clientWidth - LEFT - 8) / this.duration;
    return Math.max(whole, FEWEST) * this.zoomed;
  }

  zoom(factor) {
    const middle = this.#second(this.holder.clientWidth / 2);
    this.zoomed = Math.min(Math.max(this.zoomed * factor, 1 / 8), 16);
    this.resize();
    this.holder.scrollLeft = middle * this.scale + LEFT - this.holder.clientWidth / 2;
    this.draw();
  }

  resize() {
    const ratio = devicePixelRatio || 1, {clientWidth: width} = this.holder, height = this.canvas.clientHeight;
    this.length.style.width = `${LEFT + this.duration * this.scale + 8}px`;
    this.canvas.style.width = `${width}px`;
    Object.assign(this.canvas, {width: width * ratio, height: height * ratio});
    this.draw();
  }

  // Moves the line to a second, and the roll so that the line is seen.
  move(seconds) {
    this.#at = seconds;
    const {clientWidth: width, scrollLeft: left} = this.holder, x = LEFT + seconds * this.scale;
    if (x < left + LEFT || x > left + width - 20) this.holder.scrollLeft = x - LEFT - 20;
    this.draw();
  }

  draw = () => {
    const context = this.canvas.getContext('2d'), ratio = devicePixelRatio || 1;
    const width = this.canvas.width / ratio, height = this.canvas.height / ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#from = this.holder.scrollLeft / this.scale;
    paint(context, {width, height, from: this.#from, scale: this.scale}, this.music);
    context.fillStyle = shade('--ink');
    const x = LEFT + (this.#at - this.#from) * this.scale;
    if (x >= LEFT) context.fillRect(x - 1, 0, 2, height - AXIS);
  };

  #second(x) { return Math.min(Math.max((this.holder.scrollLeft + x - LEFT) / this.scale, 0), this.duration); }
}

// The answer as a picture: what it says, and the whole roll. Returns a promise of a PNG.
export function picture(lines, music, duration) {
  const canvas = document.createElement('canvas'), [width, height, head] = [1600, 900, 50 + 44 * lines.length];
  Object.assign(canvas, {width, height});
  const roll = document.createElement('canvas'), context = canvas.getContext('2d');
  Object.assign(roll, {width: width - 80, height: height - head - 30});
  const scale = (roll.width - LEFT - 8) / Math.max(duration, 0.1);
  paint(roll.getContext('2d'), {width: roll.width, height: roll.height, from: 0, scale}, music);
  context.fillStyle = shade('--card');
  context.fillRect(0, 0, width, height);
  lines.forEach((line, i) => {
    context.fillStyle = shade(i ? '--quiet' : '--ink');
    context.font = i ? '26px system-ui, sans-serif' : '600 36px Georgia, serif';
    context.fillText(line, 40, 60 + 44 * i, width - 80);
  });
  context.drawImage(roll, 40, head);
  return new Promise(done => canvas.toBlob(done, 'image/png'));
}
