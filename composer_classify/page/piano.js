// A piano of two octaves, by mouse, touch or keyboard, and a field for the names of notes: both write the same tune.

import {find, make} from './elements.js';
import {candidatesOf} from './pieces.js';
import {Instrument} from './player.js';

const NAMES = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B'];
const LETTERS = ['KeyA', 'KeyW', 'KeyS', 'KeyE', 'KeyD', 'KeyF', 'KeyT', 'KeyG', 'KeyY', 'KeyH', 'KeyU', 'KeyJ',
  'KeyK', 'KeyO', 'KeyL', 'KeyP', 'Semicolon', 'Quote'];  // by their places, from C on: other keyboards print others
const KEYS = 24, LOWEST = 1, HIGHEST = 6;  // keys, and the octaves in which they may begin
const ENOUGH = 5;  // notes from which on a tune can be found
const LENGTH = 0.6;  // seconds that a key sounds
const MOST = 5;  // pieces that are asked for

const nameOf = pitch => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
const spoken = pitch => nameOf(pitch).replace('#', ' sharp').replace(/(\d)/, ' $1');

export class Piano {
  #instrument = null; #octave = 4; #number = 0;

  constructor() {
    this.keys = Array.from({length: KEYS}, (_, i) => this.#key(i));
    find('keys').append(...this.keys);
    find('keys').addEventListener('keydown', event => this.#walk(event));
    document.addEventListener('keydown', event => this.#type(event));
    find('notes').addEventListener('input', () => this.#count());
    find('undo').addEventListener('click', () => this.#write(this.names.slice(0, -1)));
    find('clear').addEventListener('click', () => this.#write([]));
    find('lower').addEventListener('click', () => this.#shift(-1));
    find('higher').addEventListener('click', () => this.#shift(1));
    find('tune').addEventListener('submit', event => { event.preventDefault(); this.#find(); });
    this.#shift(0);
    this.#count();
  }

  get names() { return find('notes').value.split(/[\s,]+/).filter(Boolean); }

  get #lowest() { return 12 * (this.#octave + 1); }

  // One key; only one of all is reached by the tabulator key, and arrows lead from it to the others.
  #key(i) {
    const black = NAMES[i % 12].includes('#');
    const key = make('button', {type: 'button', className: black ? 'black' : 'white', tabIndex: i ? -1 : 0});
    key.addEventListener('pointerdown', () => this.#strike(i));
    key.addEventListener('click', event => { if (!event.detail) this.#strike(i); });  // without a pointer
    return key;
  }

  #strike(i) {
    this.#sound(this.#lowest + i);
    this.keys[i].classList.add('struck');
    setTimeout(() => this.keys[i].classList.remove('struck'), 200);
    this.#reach(i);
    this.#write([...this.names, nameOf(this.#lowest + i)]);
  }

  #sound(pitch) {
    if (!this.#instrument) {
      this.#instrument = new Instrument();
      this.#instrument.open();
    }
    const {now} = this.#instrument;
    this.#instrument.sound(pitch, 100, now, now + LENGTH);
  }

  #reach(i) {
    this.keys.forEach((key, j) => { key.tabIndex = j === i ? 0 : -1; });
    this.keys[i].focus();
  }

  // Arrows on the keys; Enter does there what it does in the field.
  #walk(event) {
    const i = this.keys.indexOf(event.target);
    const places = {ArrowRight: i + 1, ArrowUp: i + 1, ArrowLeft: i - 1, ArrowDown: i - 1, Home: 0, End: KEYS - 1};
    if (event.key === 'Enter') this.#find();
    else if (event.key === 'Backspace') this.#write(this.names.slice(0, -1));
    else if (event.key in places) this.#reach(Math.min(Math.max(places[event.key], 0), KEYS - 1));
    else return;
    event.preventDefault();
  }

  // Letters anywhere but in a field, while the piano is seen.
  #type(event) {
    const i = LETTERS.indexOf(event.code), written = event.target.matches('input:not([type=file]), textarea');
    if (i < 0 || written || !find('piano').open || event.repeat) return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.#strike(i);
  }

  #shift(by) {
    this.#octave = Math.min(Math.max(this.#octave + by, LOWEST), HIGHEST);
    this.keys.forEach((key, i) => {
      key.ariaLabel = spoken(this.#lowest + i);
      key.textContent = i % 12 ? '' : nameOf(this.#lowest + i);
    });
    find('lower').disabled = this.#octave === LOWEST;
    find('higher').disabled = this.#octave === HIGHEST;
    find('octaves').textContent = `${nameOf(this.#lowest)} to ${nameOf(this.#lowest + KEYS - 1)}`;
  }

  #write(names) {
    const field = find('notes');
    field.value = names.join(' ');
    field.scrollLeft = field.scrollWidth;
    this.#count();
  }

  #count() {
    const n = this.names.length;
    find('search').disabled = n < ENOUGH;
    find('undo').disabled = find('clear').disabled = !n;
    find('enough').textContent = n < ENOUGH ? `${n} of the ${ENOUGH} notes that it needs` : `${n} notes`;
  }

  async #find() {
    if (this.names.length < ENOUGH) return;
    const number = ++this.#number, query = new URLSearchParams({notes: this.names.join(' '), top: MOST});
    const reply = await fetch(`api/melody?${query}`).then(sent => sent.json()).catch(() =>
      ({error: 'the program that answers is not running'}));
    if (number !== this.#number) return;  // another tune has been asked for
    find('found').replaceChildren(...this.#answer(reply));
  }

  #answer({error, candidates}) {
    if (error) return [make('p', {className: 'wrong'}, `That did not work: ${error}.`)];
    if (!candidates) return [make('p', {}, 'I know no piece with such a tune.')];
    return [make('h3', {}, 'Pieces with a tune like this, the likeliest first'), candidatesOf(candidates)];
  }
}
