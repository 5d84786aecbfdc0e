// What a visitor does: chooses files, reads and hears the answers, and takes them away.

import {find, make, percent} from './elements.js';
import {Microphone} from './microphone.js';
import {Piano} from './piano.js';
import {candidatesOf, playedOf} from './pieces.js';
import {Player} from './player.js';
import {Roll, clock, picture} from './roll.js';

const LONGEST_NAME = 200;  // characters that the server takes
const TEN = 10;  // seconds of a random stretch
const REST = '--color-rest';  // of all composers without a color of their own
const AT_ONCE = 2;  // files of a table that are asked for at a time
const LONG = 60;  // seconds of a recording that is said to take a while
const HELP = 'This page reads recordings (WAV, FLAC, MP3 and OGG), MIDI files and scores. MuseScore, Sibelius, Finale '
  + 'and Dorico export scores: choose MusicXML or MIDI there.';
const about = await (await fetch('api/about')).json();
let shown = null;  // what is on the page: {file, whole, player, roll, say}; `whole` is the reply for all of the file
let latest = 0, latestTable = 0;  // numbers of the last question and table: late answers to earlier ones are dropped
let asked = new AbortController();  // of the last question

// --- Questions ---------------------------------------------------------------------------------------------------

// How recordings begin, and videos with sound; of MPEG see below.
const SOUND = /^(fLaC|OggS|ID3|caff|\.snd|\x1aE\xdf\xa3|0&\xb2u|#!AMR|....ftyp|(RI|RF|FO)......(WAVE|AIF[FC]|AVI ))/s;

// Whether a file is a recording, as its first bytes say.
async function isRecording(file) {
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer()), text = String.fromCharCode(...head);
  return SOUND.test(text) || (head[0] === 0xFF && head[1] >= 0xE0);
}

// Why a file is not sent; empty if it is.
async function refusal(file) {
  const recording = await isRecording(file), most = recording ? about.max_audio_bytes : about.max_bytes;
  const limit = `${Math.floor(most / 2 ** 20)} MB, the limit of this page${recording ? ' for recordings' : ''}`;
  return file.size > most ? `is larger than ${limit}` : '';
}

// The server's reply for a file, or for a stretch of it; it has an `error` if there is no answer.
async function ask(file, stretch = {}, signal = null) {
  try {
    const error = await refusal(file);
    if (error) return {error};
    const query = new URLSearchParams({name: file.name.slice(0, LONGEST_NAME), ...stretch});
    const sent = await fetch(`api/show?${query}`, {method: 'POST', body: file, signal});
    return await sent.json();
  } catch {
    return {error: 'could not be sent: the program that answers is not running, or the file has changed'};
  }
}

// --- One file ----------------------------------------------------------------------------------------------------

async function show(file, stretch = {}) {
  const {number, signal} = begin();
  find('chosen').hidden = false;
  find('name').textContent = file.name;
  find('answer').classList.add('waiting');
  find('whole').disabled = find('chunk').disabled = true;  // until there is something to ask about
  approach();
  const done = stretch.start === undefined ? wait(file, number) : () => {};
  const reply = await ask(file, stretch, signal);
  done();
  if (number === latest) present(file, reply, stretch);
}

// A new question; the one before it is no longer wanted, and the server stops working at it.
function begin() {
  asked.abort();
  find('progress').replaceChildren();
  asked = new AbortController();
  return {number: ++latest, signal: asked.signal};
}

// Says how much there is to listen to, if it takes long, and how long it has taken. Returns what ends that.
function wait(file, number) {
  const began = Date.now(), took = make('span', {ariaHidden: 'true'});
  let ended = false;
  const timer = setInterval(() => { took.textContent = ` ${clock((Date.now() - began) / 1000)}`; }, 1000);
  lengthOf(file).then(seconds => {
    if (number !== latest || ended || seconds < LONG) return;
    const minutes = Math.round(seconds / 60);
    find('progress').replaceChildren(`Listening through ${minutes} minute${minutes > 1 ? 's' : ''}…`, took);
  });
  return () => {
    ended = true;
    clearInterval(timer);
    if (number === latest) find('progress').replaceChildren();
  };
}

// Seconds of a recording as far as the browser can tell; else 0.
async function lengthOf(file) {
  if (!await isRecording(file)) return 0;
  const sound = new Audio(), url = URL.createObjectURL(file);
  const seconds = await new Promise(resolve => {
    Object.assign(sound, {onloadedmetadata: () => resolve(sound.duration), onerror: () => resolve(0), src: url});
  });
  URL.revokeObjectURL(url);
  return Number.isFinite(seconds) ? seconds : 0;
}

// Scrolls to the answer if little of it is seen.
function approach() {
  const {top} = find('chosen').getBoundingClientRect();
  if (top > innerHeight / 2) find('chosen').scrollIntoView();
}

// Puts the reply on the page.
function present(file, reply, stretch = {}) {
  const whole = stretch.start === undefined && !reply.error ? reply : shown?.file === file ? shown.whole : null;
  clear();
  shown = {file, whole};
  find('chosen').hidden = false;
  find('name').textContent = file.name;
  find('whole').disabled = false;
  find('chunk').disabled = !whole;
  if (reply.error) showError(file, reply.error); else showAnswer(reply, stretch.start ?? 0);
  find('answer').classList.remove('waiting');
  approach();
}

function clear() {
  shown?.player?.close();
  shown?.roll?.close();
  find('answer').replaceChildren();
}

function showError(file, error) {
  const sentence = make('p', {role: 'alert', className: 'wrong'}, make('bdi', {}, file.name), `: ${error}.`);
  find('answer').replaceChildren(make('h2', {}, 'That did not work'), sentence, make('p', {className: 'quiet'}, HELP));
}

// Any ten seconds of the file, beginning with a note of the whole.
function chunk() {
  const {onset_sec} = shown.whole.notes, last = Math.max(...shown.whole.answer.timeline.map(each => each.end_sec));
  const early = onset_sec.filter(onset => onset <= Math.max(last - TEN, 0));
  const start = early.length ? early[Math.floor(Math.random() * early.length)] : onset_sec[0];
  show(shown.file, {start, duration: TEN});
}

// Whether the answer names the piece.
const found = ({by}) => by === 'piece';

// --- The answer --------------------------------------------------------------------------------------------------

function showAnswer(reply, start) {
  const {answer, words} = reply, colors = colorsOf(answer);
  const music = {notes: reply.notes, timeline: answer.timeline, telling: reply.telling, start, colors};
  shown.player = new Player(reply.notes, () => stopped());
  const sound = playerOf(music);
  find('answer').replaceChildren(
    ...playedIn(answer, start),
    make('p', {className: 'who'}, words.who), make('h2', {}, words.headline),
    ...words.lines.map((line, i) => make('p', {className: i ? 'quiet' : 'place'}, line)),
    found(answer) ? '' : answer.candidates ? candidatesOf(answer.candidates) : rankingOf(answer.ranking, colors),
    ...sound, legendOf(answer, colors), make('p', {className: 'less'}, words.telling),
    found(answer) ? styleOf(answer, words, colors) : '',
    tableOf(answer), downloadsOf(reply, music),
  );
  shown.roll = new Roll(find('answer').querySelector('.roll'), music, shown.player.duration, seek);
}

// The pieces of a concert, one after another.
function playedIn({pieces = []}, start) {
  return pieces.length > 1 ? [make('h3', {}, 'What is played when'), playedOf(pieces, at => seek(at - start))] : [];
}

// A color for each composer of the ranking and the passages; the first six have one of their own.
function colorsOf({ranking, style, timeline}) {
  const names = [...new Set([...ranking, ...style.ranking, ...timeline].map(each => each.composer))];
  return Object.fromEntries(names.map((name, i) => [name, i < 6 ? `--color-${i}` : REST]));
}

function rankingOf(ranking, colors) {
  const list = make('dl', {className: 'ranking', ariaLabel: 'Ranking of composers'});
  for (const {composer, probability} of ranking) {
    const bar = make('i');
    bar.style.cssText = `width: ${Math.max(100 * probability, 0.5)}%; background: var(${colors[composer]})`;
    const share = make('span', {className: 'share'}, percent(probability));
    const meter = make('div', {className: 'meter'}, bar);
    list.append(make('dt', {}, make('span', {}, composer)), make('dd', {}, meter, share));
  }
  return list;
}

function styleOf(answer, words, colors) {
  return make('div', {className: 'less'}, make('h3', {}, words.style), rankingOf(answer.style.ranking, colors));
}

function legendOf({timeline}, colors) {
  const names = [...new Set(timeline.map(each => each.composer))], own = names.filter(name => colors[name] !== REST);
  const entry = name => {
    const patch = make('i');
    patch.style.background = `var(${colors[name] ?? REST})`;
    return make('span', {}, patch, name);
  };
  const row = make('div', {className: 'legend less'}, make('span', {}, 'Style, passage by passage:'));
  row.append(...[...own, ...(own.length < names.length ? ['others'] : [])].map(entry));
  return timeline.length ? row : '';
}

function tableOf({timeline}) {
  const row = each => make('tr', {}, make('td', {}, `${clock(each.start_sec)} to ${clock(each.end_sec)}`),
    make('td', {}, each.composer), make('td', {className: 'number'}, percent(each.probability)));
  const heads = ['When', 'Style', 'Probability'].map((head, i) =>
    make('th', {scope: 'col', className: i === 2 ? 'number' : ''}, head));
  const table = make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...timeline.map(row)));
  return make('details', {}, make('summary', {}, 'Passages as a table'), table);
}

// --- Sound and roll ----------------------------------------------------------------------------------------------

function playerOf({start}) {
  const {player} = shown, end = clock(start + player.duration);
  const play = make('button', {id: 'play', type: 'button', onclick: toggle}, 'Play');
  const time = make('span', {id: 'time', ariaLive: 'off'}, `${clock(start)} of ${end}`);
  const zoom = (sign, label, factor) => make('button', {type: 'button', className: 'zoom', ariaLabel: label,
    onclick: () => shown.roll.zoom(factor)}, sign);
  const roll = make('div', {className: 'roll', tabIndex: 0, role: 'slider', ariaLabel: 'Position in the music'});
  Object.assign(roll, {ariaValueMin: '0', ariaValueMax: String(Math.round(player.duration)), onkeydown: key});
  shown.say = seconds => {
    const said = `${clock(start + seconds)} of ${end}`;
    if (said === roll.ariaValueText) return;
    time.textContent = said;
    Object.assign(roll, {ariaValueNow: String(Math.round(seconds)), ariaValueText: said});
  };
  shown.say(0);
  const bar = make('div', {className: 'player'}, play, time, zoom('−', 'Zoom out', 1 / 2), zoom('+', 'Zoom in', 2));
  return [bar, roll];
}

function toggle() {
  if (shown.player.playing) return pause();
  shown.player.play();
  find('play').textContent = 'Pause';
  follow();
}

function pause() {
  shown.player.pause();
  find('play').textContent = 'Play';
}

function stopped() {
  find('play').textContent = 'Play';
  moved();
}

function seek(seconds) {
  const wasPlaying = shown.player.playing;
  shown.player.play(seconds);
  find('play').textContent = 'Pause';
  if (!wasPlaying) follow();
}

function moved() {
  shown.say(shown.player.position);
  shown.roll.move(shown.player.position);
}

function follow() {
  const {player} = shown;
  const frame = () => {
    if (shown.player !== player || !player.playing) return;
    moved();
    requestAnimationFrame(frame);
  };
  frame();
}

// The roll by keyboard: arrows move five seconds, a page half a minute, Space plays and pauses.
function key(event) {
  const {position, duration} = shown.player;
  const places = {ArrowRight: position + 5, ArrowLeft: position - 5, ArrowUp: position + 5, ArrowDown: position - 5,
    PageUp: position + 30, PageDown: position - 30, Home: 0, End: duration};
  if (event.key === ' ') toggle();
  else if (event.key in places) {
    shown.player.seek(places[event.key]);
    moved();
  } else return;
  event.preventDefault();
}

// --- To take away ------------------------------------------------------------------------------------------------

function save(name, content) {
  const link = make('a', {download: name, href: URL.createObjectURL(content)});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const saveJson = (name, answers) =>
  save(name, new Blob([JSON.stringify(answers, null, 2)], {type: 'application/json'}));

function downloadsOf(reply, music) {
  const name = (reply.answer.file.replace(/^.*[\\/]/, '').replace(/\.[^.]*$/, '') || 'music');
  const lines = [[reply.words.who, reply.words.headline].filter(Boolean).join(': '), ...reply.words.lines];
  const {duration} = shown.player;
  return make('div', {className: 'buttons downloads'},
    make('button', {type: 'button', onclick: () => saveJson(`${name}.json`, [reply.answer])}, 'Answer as JSON'),
    make('button', {type: 'button', onclick: async () => save(`${name}.png`, await picture(lines, music, duration))},
      'Picture'));
}

// --- Several files -----------------------------------------------------------------------------------------------

async function showSeveral(files) {
  const number = ++latestTable, answers = [];
  begin();
  clear();
  find('chosen').hidden = true;
  const heads = ['File', 'Piece', 'Composer', 'Probability'].map((head, i) =>
    make('th', {scope: 'col', className: i === 3 ? 'number' : ''}, head));
  const rows = files.map(file => make('tr', {}, make('td', {}, make('bdi', {}, file.name)), make('td', {}, '…')));
  const table = make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows));
  const download = make('button', {type: 'button', disabled: true, onclick: () => saveJson('answers.json', answers)},
    'All answers as JSON');
  find('several').replaceChildren(make('h2', {}, `${files.length} files`), make('div', {className: 'several'}, table),
    make('div', {className: 'buttons downloads'}, download));
  find('several').hidden = false;
  let next = 0;
  const work = async () => {
    while (next < files.length && number === latestTable) {
      const i = next++, reply = await ask(files[i]);
      if (number !== latestTable) return;
      answers[i] = reply.answer ?? {file: files[i].name, error: reply.error};
      fill(rows[i], files[i], reply);
      say('', `${answers.filter(Boolean).length} of ${files.length} files answered`);
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
  if (number === latestTable) download.disabled = false;
}

function fill(row, file, {answer, words, error}) {
  const label = make('bdi', {}, file.name);
  const name = make('button', {type: 'button', className: 'link', onclick: () => show(file)}, label);
  const cells = error ? [make('td', {colSpan: 3, className: 'wrong'}, error)] : [
    make('td', {}, found(answer) ? words.headline : '—'),
    make('td', {}, found(answer) ? answer.composer : words.headline),
    make('td', {className: 'number'}, percent(answer.probability))];
  row.replaceChildren(make('td', {}, name), ...cells);
}

// --- Choosing ----------------------------------------------------------------------------------------------------

function say(name, words) {
  find('status').replaceChildren(...(name ? [make('bdi', {}, name)] : []), words);
}

function take(files) {
  if (!files.length) return;
  microphone.cancel();
  latestTable++;
  say('', '');
  find('several').hidden = true;
  if (files.length > 1) return showSeveral(files);
  show(files[0]);
}

// Ends what sounds and what is asked, so that the microphone hears the room alone.
function hush() {
  begin();
  latestTable++;
  say('', '');
  clear();
  find('several').hidden = find('chosen').hidden = true;
}

async function takeSample(name) {
  const {number} = begin();
  let content;
  try {
    content = await (await fetch(`samples/${name}`)).blob();
  } catch {
    say(name, ' could not be fetched: the program that answers is not running.');
    return;
  }
  if (number === latest) take([new File([content], name)]);  // else something else was chosen
}

function prepare() {
  const drop = document.querySelector('.drop'), input = find('files'), samples = document.querySelector('.samples');
  input.addEventListener('change', () => { take([...input.files]); input.value = ''; });
  for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
    drop.addEventListener(kind, event => {
      event.preventDefault();
      drop.classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
      if (kind === 'drop') take([...event.dataTransfer.files]);
    });
  }
  for (const [label, name] of Object.entries(about.samples)) {
    samples.append(make('button', {type: 'button', onclick: () => takeSample(name)}, label));
  }
  find('whole').addEventListener('click', () => show(shown.file));
  find('chunk').addEventListener('click', chunk);
}

function introduce() {
  const n = about.periods.reduce((sum, {composers}) => sum + composers.length, 0);
  const pieces = about.pieces ? `It can name ${about.pieces.toLocaleString('en')} pieces` : 'It can name no piece';
  find('counts').textContent = `${pieces}, and the style of ${n} composers:`;
  for (const {period, composers} of about.periods) {
    find('periods').append(make('dt', {}, period), make('dd', {}, composers.join(', ')));
  }
  find('version').textContent = `Version ${about.version}`;
  find('known').hidden = false;
}

const microphone = new Microphone({begin: hush, ask, show: present});
new Piano();
prepare();
introduce();
