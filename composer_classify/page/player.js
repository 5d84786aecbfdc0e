// Plays notes in the browser, with a plain tone that fades like that of a piano.

const AHEAD = 1.5;  // seconds that are scheduled in advance; a page in the background is called once a second or less
const VOICES = 64;  // notes that sound at a time, at most

// What sounds.
export class Instrument {
  #context = new AudioContext(); #tone; #out;

  constructor() {
    const harmonics = new Float32Array([0, 1, 0.5, 0.25, 0.12, 0.06]);
    this.#tone = this.#context.createPeriodicWave(new Float32Array(harmonics.length), harmonics);
  }

  // Seconds on the clock by which it plays.
  get now() { return this.#context.currentTime; }

  open() {
    this.#context.resume();
    this.#out = new GainNode(this.#context, {gain: 0.25});
    this.#out.connect(new DynamicsCompressorNode(this.#context)).connect(this.#context.destination);
  }

  silence() { this.#out.disconnect(); }  // and with it all that is scheduled

  close() { this.#context.close(); }

  // Sounds a note from one second of its clock to another.
  sound(pitch, velocity, begin, end) {
    const loudness = 0.15 + 0.85 * velocity / 127;
    const gain = new GainNode(this.#context, {gain: 0});
    gain.gain.setValueAtTime(0, begin);
    gain.gain.linearRampToValueAtTime(loudness, begin + 0.005);
    gain.gain.setTargetAtTime(0, begin + 0.005, 1.2);
    gain.gain.setTargetAtTime(0, end, 0.05);
    const frequency = 440 * 2 ** ((pitch - 69) / 12);
    const tone = new OscillatorNode(this.#context, {periodicWave: this.#tone, frequency});
    tone.connect(gain).connect(this.#out);
    tone.start(begin);
    tone.stop(end + 0.3);
  }
}

export class Player {
  #instrument = null; #timer; #next; #from = 0; #began = 0; #ends = [];

  // Notes as columns, as the server sends them. `onEnd` is called when the music has come to its end.
  constructor(notes, onEnd) {
    this.notes = notes;
    this.onEnd = onEnd;
    this.duration = notes.onset_sec.reduce((end, onset, i) => Math.max(end, onset + notes.duration_sec[i]), 0);
  }

  get playing() { return this.#timer !== undefined; }

  // Seconds from the beginning of the notes.
  get position() {
    const at = this.playing ? this.#from + this.#instrument.now - this.#began : this.#from;
    return Math.min(Math.max(at, 0), this.duration);
  }

  play(from = this.position) {
    this.pause();
    this.#instrument ??= new Instrument();
    this.#instrument.open();
    this.#from = from < this.duration - 0.05 ? from : 0;
    this.#began = this.#instrument.now + 0.05;
    this.#next = 0;
    this.#ends = [];
    this.#timer = setInterval(() => this.#schedule(), 100);
    this.#schedule();
  }

  pause() {
    if (!this.playing) return;
    this.#from = this.position;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#instrument.silence();
  }

  seek(to) {
    const at = Math.min(Math.max(to, 0), this.duration);
    if (!this.playing) this.#from = at; else if (at < this.duration) this.play(at); else this.#end();
  }

  close() {
    this.pause();
    this.#instrument?.close();
    this.#instrument = null;
  }

  #schedule() {
    const {onset_sec, duration_sec} = this.notes, until = this.position + AHEAD;
    for (; this.#next < onset_sec.length && onset_sec[this.#next] < until; this.#next++) {
      if (onset_sec[this.#next] + duration_sec[this.#next] > this.#from) this.#sound(this.#next);
    }
    if (this.position >= this.duration) this.#end();
  }

  #end() {
    this.pause();
    this.#from = 0;
    this.onEnd();
  }

  #sound(i) {
    const {onset_sec, duration_sec, pitch, velocity} = this.notes;
    const begin = Math.max(this.#began + onset_sec[i] - this.#from, this.#instrument.now);
    const end = Math.max(this.#began + onset_sec[i] + duration_sec[i] - this.#from, begin + 0.01);
    this.#ends = this.#ends.filter(each => each > begin);
    if (this.#ends.length >= VOICES) return;
    this.#ends.push(end);
    this.#instrument.sound(pitch[i], velocity[i], begin, end);
  }
}
