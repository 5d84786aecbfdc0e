// Listens by the microphone: records, shows how loud it is, and asks with what has been recorded so far.

import {find} from './elements.js';

const ASKED_AT = [10, 20, 30];  // seconds recorded at which the server is asked
const FEWEST = 3;  // seconds from which on there is enough to ask with
const SILENCE = 0.002;  // what the level, as a share of the loudest there can be, stays below where nothing sounds
const QUIET = -60;  // decibels at which the picture of the level begins
const RAW = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};

const REASONS = {
  NotAllowedError: 'The browser does not let this page use the microphone. Allow it beside the address, and try again.',
  NotFoundError: 'There is no microphone here. Connect one, or choose a file.',
  NotReadableError: 'The microphone cannot be used: another program may have it.',
};
const NOT_SAFE = 'Browsers give the microphone only to pages with https, or on this computer (localhost).';
const NOTHING = 'I hear nothing. Is this the right microphone, and is it switched on?';
const SHORT = `That was too short: ${FEWEST} seconds are the least.`;

// The samples as 16-bit WAV with one channel.
function wav(blocks, rate) {
  const size = 2 * blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + size, true);
  text(8, 'WAVEfmt ');
  [[16, 16], [24, rate], [28, 2 * rate], [40, size]].forEach(([at, number]) => view.setUint32(at, number, true));
  [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, number]) => view.setUint16(at, number, true));
  text(36, 'data');
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.round(32767 * Math.min(Math.max(sample, -1), 1)), true);
      at += 2;
    }
  }
  return new File([view], 'recording', {type: 'audio/wav'});
}

// One recording, from the moment it is opened until it is stopped.
class Recording {
  #blocks = []; #waiting = []; #stream; #context;

  // Asks for the microphone. `onBlock` is called with the level of each block, 0 to 1. Rejects as `getUserMedia` does.
  static async open(onBlock) {
    const recording = new Recording();
    recording.onBlock = onBlock;
    recording.#stream = await navigator.mediaDevices.getUserMedia({audio: RAW});
    recording.#context = new AudioContext();
    try {
      await recording.#begin();
    } catch (error) {
      recording.stop();
      throw error;
    }
    return recording;
  }

  async #begin() {
    const context = this.#context, source = context.createMediaStreamSource(this.#stream);
    await context.audioWorklet.addModule('page/recorder.js');
    const recorder = new AudioWorkletNode(context, 'recorder', {outputChannelCount: [1]});
    recorder.port.onmessage = ({data}) => this.#add(data);
    source.connect(recorder).connect(context.destination);  // where it is silent: it only asks for the next samples
    this.#stream.getTracks().forEach(track => { track.onended = () => this.stop(); });  // it was unplugged
    await context.resume();
  }

  loudest = 0;
  stopped = false;

  get seconds() { return this.#blocks.reduce((sum, block) => sum + block.length, 0) / this.#context.sampleRate; }

  get file() { return wav(this.#blocks, this.#context.sampleRate); }

  // Resolves once so many seconds are recorded, or it is stopped.
  until(seconds) {
    return new Promise(resolve => { this.#waiting.push({seconds, resolve}); this.#tell(); });
  }

  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.#stream.getTracks().forEach(track => track.stop());
    this.#context.close();
    this.#tell();
  }

  #add(block) {
    if (this.stopped) return;
    this.#blocks.push(block);
    const level = Math.sqrt(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length);
    this.loudest = Math.max(this.loudest, level);
    this.onBlock(level);
    this.#tell();
  }

  #tell() {
    const ready = ({seconds}) => this.stopped || this.seconds >= seconds;
    this.#waiting.filter(ready).forEach(({resolve}) => resolve());
    this.#waiting = this.#waiting.filter(each => !ready(each));
  }
}

// The button that listens, and what is seen and said while it does.
export class Microphone {
  #recording = null; #run = 0; #second = -1;

  // `begin` is called as soon as it listens, `ask` gives the reply for a file, and `show` takes file and reply.
  constructor({begin, ask, show}) {
    Object.assign(this, {begin, ask, show});
    find('listen').addEventListener('click', () => this.#recording ? this.#end() : this.#listen());
  }

  // Ends without an answer, as something else has been chosen.
  cancel() {
    this.#run++;
    this.#end();
    this.#say('');
  }

  async #listen() {
    const run = ++this.#run, late = () => run !== this.#run;
    this.begin();
    try {
      const recording = await this.#open();
      if (late()) return recording.stop();
      this.#recording = recording;
      this.#begun();
      const answer = await this.#answer(recording, late);
      if (late() || !answer) return;
      this.#say('');
      this.show(...answer);
    } catch (error) {
      if (!late()) this.#say(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`, true);
    } finally {
      if (!late()) this.#end();
    }
  }

  async #open() {
    if (!navigator.mediaDevices) throw new Error(NOT_SAFE);
    this.#say('Waiting for the microphone…');
    return Recording.open(level => this.#meter(level));
  }

  // File and reply, the first that names a piece or else the last; none if there was nothing to ask with.
  async #answer(recording, late) {
    for (const seconds of ASKED_AT) {
      await recording.until(seconds);
      if (late()) return null;
      if (recording.seconds < FEWEST) return this.#say(SHORT, true);
      if (recording.loudest < SILENCE) return this.#say(NOTHING, true);
      if (seconds === ASKED_AT.at(-1)) this.#end();
      this.#say('Looking for the piece…');
      const {file} = recording, reply = await this.ask(file);
      if (late() || recording.stopped || reply.answer?.by === 'piece') return [file, reply];
      this.#say('Not recognised yet: I listen on.');
    }
  }

  #begun() {
    find('listen').textContent = 'Stop';
    find('microphone').classList.add('on');
    this.#say('I am listening.');
    this.#second = -1;
  }

  #end() {
    this.#recording?.stop();
    this.#recording = null;
    find('listen').textContent = 'Listen';
    find('microphone').classList.remove('on');
    find('seconds').textContent = '';
    this.#draw(0);
  }

  // Draws each block; numbers and words change once a second.
  #meter(level) {
    this.#draw(Math.min(Math.max(1 - 20 * Math.log10(level + 1e-9) / QUIET, 0), 1));
    const second = Math.floor(this.#recording?.seconds ?? 0);
    if (second === this.#second) return;
    this.#second = second;
    find('seconds').textContent = `${second} s`;
    const words = level < SILENCE ? 'silence' : level < 20 * SILENCE ? 'quiet' : 'loud enough';
    Object.assign(find('level'), {ariaValueNow: String(Math.round(100 * Math.min(level, 1))), ariaValueText: words});
  }

  #draw(share) { find('level').style.setProperty('--level', share.toFixed(3)); }

  #say(words, wrong = false) {
    find('hearing').textContent = words;
    find('hearing').classList.toggle('wrong', wrong);
  }
}
