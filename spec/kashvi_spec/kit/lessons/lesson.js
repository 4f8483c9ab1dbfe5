// The page of a lesson: chooses a story, scrubs through it by keys, pointer or play, and shows where each job is.
(() => {
  'use strict';
  const lesson = JSON.parse(document.getElementById('lesson').textContent);
  const at = id => document.getElementById(id), calm = matchMedia('(prefers-reduced-motion: reduce)');
  const PLACES = [['ready', 'in the queue'], ['due', 'waits until due'], ['held', 'with a worker'], ['failed', 'failed, no row yet'],
    ['row', 'in the failure table'], ['done', 'done'], ['gone', 'cancelled']];
  const PLAY_S = 16, PAUSE_MS = 900, NEAR = 7, CHIPS = 6;
  let story = 0, bug = false, step = -1, now = 0, zoom = 1, playing = 0, picture, picked = 0, run, stops;

  document.documentElement.classList.add('js');
  const ends = () => Math.max(lesson.stories[story].clean.to, lesson.stories[story].bug.to);
  const name = job => lanes.named(run, job);
  const el = (tag, kind, text) => { const one = document.createElement(tag); if (kind) one.className = kind; if (text !== undefined) one.textContent = text; return one; };
  const seconds = time => time.toFixed(3) + ' s';

  function load(keep) {
    const values = lesson.stories[story][bug ? 'bug' : 'clean'];
    run = Object.assign({hows: lesson.hows}, values);
    stops = run.steps.map((one, n) => one[5] ? n : -1).filter(n => n >= 0);
    if (!keep) { now = run.from; step = -1; zoom = 1; picked = 0; }
    step = before(now, keep && step >= 0);
    at('command').textContent = lesson.stories[story][bug ? 'planted' : 'shown'];
    at('example').textContent = lesson.stories[story].text;
    at('toml').hidden = !lesson.stories[story].text;
    for (const one of document.querySelectorAll('[name=bug]')) one.checked = (one.value === 'bug') === bug;
    document.body.classList.toggle('bug', bug);
    breaks();
    paint();
  }

  /** The last step at or before a time. */
  function before(time, inclusive = true) {
    let found = -1;
    run.steps.forEach((one, n) => { if (one[0] < time - 1e-9 || (inclusive && one[0] <= time + 1e-9)) found = n; });
    return found;
  }

  /** The job's last step at a time, where a promise breaks. */
  function of(time, job) {
    const found = run.steps.map((one, n) => Math.abs(one[0] - time) < 1e-3 && one[2] === job ? n : -1).filter(n => n >= 0);
    return found.length ? found.pop() : before(time);
  }

  function view() {
    const width = at('stage').clientWidth, phone = width < 560, whole = [run.from, ends() > run.from ? ends() : run.from + 1];
    const pad = (whole[1] - whole[0]) * .02, span = (whole[1] - whole[0] + pad) / zoom;
    let from = zoom === 1 ? whole[0] : now - span / 2;
    from = Math.max(whole[0], Math.min(from, whole[1] + pad - span));
    return {width, from, to: from + span, picked, phone, left: phone ? 46 : 68};
  }

  function paint() {
    const seen = view();
    picture = lanes.draw(at('lanes'), run, seen);
    const scrub = at('scrub');
    scrub.style.marginLeft = picture.left - 9 + 'px';
    scrub.style.width = picture.plot + 18 + 'px';
    scrub.min = seen.from; scrub.max = seen.to;
    at('closer').disabled = zoom >= 16; at('wider').disabled = zoom === 1;
    show();
  }

  function show() {
    picture.move(now);
    const one = run.steps[step], text = one ? told(one) : 'Nothing has happened yet.';
    at('scrub').value = now;
    at('scrub').setAttribute('aria-valuetext', seconds(now) + ': ' + text);
    at('clock').textContent = seconds(now);
    at('told').setAttribute('aria-live', playing && !calm.matches ? 'off' : 'polite');
    at('told').textContent = text;
    at('play').textContent = playing ? 'Pause' : 'Play';
    at('play').setAttribute('aria-pressed', Boolean(playing));
    board();
    log();
    const broken = run.breaks.filter(each => each[0] <= now + 1e-9);
    at('verdict').className = 'verdict ' + (broken.length ? 'bad' : 'good');
    at('verdict').textContent = broken.length ? `Broken: ${broken[0][1]}, at ${seconds(broken[0][0])}` : 'No promise broken so far';
  }

  const told = one => (one[1] ? one[1] + ': ' : '') + (one[2] ? name(one[2]) + ': ' : '') + run.texts[one[3]];

  function board() {
    const where = new Map(), over = run.before[0];
    for (const [job, place, by] of run.before.slice(1)) where.set(job, [place, by]);
    const used = new Set(['ready', 'held', 'done']);
    run.steps.forEach((one, n) => {
      if (one[4] && one[4] !== 'dead') used.add(one[4]);
      if (n > step) return;
      if (one[4] === 'dead') { for (const [job, [place, by]] of where) if (place === 'held' && by === one[1]) where.set(job, ['dead', by]); }
      else if (one[4]) where.set(one[2], [one[4], one[1]]);
    });
    const columns = PLACES.filter(([key]) => used.has(key)).map(([key, title]) => {
      const column = el('div', 'place'), jobs = [...where].filter(([, [place]]) => place === key || (key === 'held' && place === 'dead'));
      const count = jobs.length + (key === 'done' ? over : 0);
      column.append(el('h3', '', `${title} `), el('span', 'count', count));
      const chips = el('div', 'chips');
      for (const [job, [place, by]] of key === 'done' ? jobs.slice(-CHIPS) : jobs.slice(0, CHIPS)) {
        const chip = el('button', 'chip ' + place + (job === picked ? ' picked' : ''), name(job) + (key === 'held' ? ' · ' + by + (place === 'dead' ? ' †' : '') : ''));
        chip.type = 'button';
        chip.title = place === 'dead' ? 'Its process is dead, and the job still in its list' : 'Show it in the lanes';
        chip.onclick = () => { picked = picked === job ? 0 : job; paint(); };
        chips.append(chip);
      }
      if (count > CHIPS) chips.append(el('span', 'soft', '…'));
      column.append(chips);
      return column;
    });
    at('board').replaceChildren(...columns);
  }

  function log() {
    const here = stops.filter(n => n <= step).length - 1;
    const first = Math.max(0, Math.min(here - NEAR, stops.length - 2 * NEAR - 1)), rows = stops.slice(first, first + 2 * NEAR + 1);
    const broken = new Set(run.breaks.map(each => of(each[0], each[2])));
    at('log').start = first + 1;
    at('log').replaceChildren(...rows.map(n => {
      const one = run.steps[n], row = el('li', (n > step ? 'future' : '') + (n === step ? ' here' : '') + (broken.has(n) ? ' broke' : '') + (one[2] && one[2] === picked ? ' mine' : ''));
      row.append(el('span', 'time', one[0].toFixed(3)), el('span', 'who', one[1]), el('span', 'job', one[2] ? name(one[2]) : ''), el('span', 'what', run.texts[one[3]]));
      if (n === step) row.setAttribute('aria-current', 'step');
      row.onclick = () => go(n);
      return row;
    }));
    at('more').textContent = stops.length > rows.length ? `Steps ${first + 1} to ${first + rows.length} of ${stops.length}` + (stops.length < run.steps.length ? '; those of jobs that nothing befell are left out' : '') : '';
  }

  function breaks() {
    const items = run.breaks.map(([time, clause, job, why]) => {
      const item = el('li'), jump = el('button', 'jump', seconds(time));
      jump.type = 'button';
      jump.onclick = () => { stop(); now = time; step = of(time, job); picked = job; paint(); };
      item.append(jump, ` ${job ? name(job) + ': ' : ''}${why} `, el('code', '', clause));
      return item;
    });
    for (const differs of run.differs) items.push(el('li', 'soft', 'The example expects something else: ' + differs));
    at('breaks').replaceChildren(...items);
    at('broken').hidden = !bug;
    at('whole').textContent = run.breaks.length ? 'Here the promise breaks:' : 'This story does not find the bug: every promise is kept here. Another one does.';
  }

  function go(n) { stop(); step = n; now = n < 0 ? run.from : run.steps[n][0]; zoom > 1 ? paint() : show(); }
  function next() { return stops.find(n => n > step); }
  function seek(time) {
    now = Math.max(run.from, Math.min(time, ends()));
    step = before(now);
    zoom > 1 ? paint() : show();
  }
  function zoomBy(by) { zoom = Math.max(1, Math.min(16, zoom * by)); paint(); }

  function stop() { if (playing) { calm.matches ? clearTimeout(playing) : cancelAnimationFrame(playing); playing = 0; } }
  function play() {
    if (playing) { stop(); show(); return; }
    if (now >= ends() - 1e-9 || next() === undefined) { now = run.from; step = -1; }
    if (calm.matches) {
      const hop = () => { const n = next(); if (n === undefined) { playing = 0; show(); return; } playing = setTimeout(hop, PAUSE_MS); step = n; now = run.steps[n][0]; zoom > 1 ? paint() : show(); };
      playing = 1; hop();
      return;
    }
    let last = performance.now();
    const speed = Math.max((ends() - run.from) / PLAY_S, .2);
    const frame = time => {
      playing = requestAnimationFrame(frame);
      const to = now + (time - last) / 1000 * speed;
      last = time;
      if (to >= ends()) { stop(); seek(ends()); return; }
      seek(to);
    };
    playing = requestAnimationFrame(frame);
  }

  const KEYS = {
    ArrowRight: () => { const n = next(); if (n !== undefined) go(n); }, ArrowLeft: () => go(stops.filter(n => n < step).pop() ?? -1),
    Home: () => go(-1), End: () => { stop(); seek(ends()); }, ' ': play, '+': () => zoomBy(2), '-': () => zoomBy(.5),
    b: () => { bug = !bug; stop(); load(true); },
  };
  document.addEventListener('keydown', event => {
    const on = event.target, key = KEYS[event.key];
    if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
    if (on.matches('select, textarea, input[type=radio]') && event.key !== 'b') return;
    if (event.key === ' ' && on.matches('button, summary, a')) return;
    event.preventDefault();
    key();
  });

  at('scrub').addEventListener('input', event => { stop(); seek(+event.target.value); });
  const drag = event => { const box = at('lanes').getBoundingClientRect(); stop(); seek(picture.time(event.clientX - box.left)); };
  at('lanes').addEventListener('pointerdown', event => { drag(event); at('lanes').setPointerCapture(event.pointerId); });
  at('lanes').addEventListener('pointermove', event => { if (event.buttons) drag(event); });
  at('back').onclick = KEYS.ArrowLeft; at('next').onclick = KEYS.ArrowRight; at('play').onclick = play;
  at('first').onclick = KEYS.Home; at('last').onclick = KEYS.End;
  at('closer').onclick = KEYS['+']; at('wider').onclick = KEYS['-'];
  at('story').onchange = event => { story = event.target.selectedIndex; stop(); load(false); };
  for (const one of document.querySelectorAll('[name=bug]')) one.onchange = () => { bug = one.value === 'bug'; stop(); load(true); };
  at('plant').onclick = () => {
    story = lesson.shows; at('story').selectedIndex = story; bug = true; stop(); load(false);
    at('stage').scrollIntoView({behavior: calm.matches ? 'auto' : 'smooth', block: 'center'});
    at('scrub').focus({preventScroll: true});
  };
  let width = 0;
  new ResizeObserver(() => { if (at('stage').clientWidth !== width) { width = at('stage').clientWidth; paint(); } }).observe(at('stage'));
  load(false);
})();
