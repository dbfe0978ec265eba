// Work for a JavaScript engine's compiler: numbers, objects of several shapes, typed arrays, strings. Prints one checksum.
'use strict';

const size = Number(process.argv[2] || 1);
let checksum = 0;
const note = (value) => { checksum = (Math.imul(checksum, 31) + (value | 0)) | 0; };

// Bodies that attract each other, as plain objects with floating-point fields.
function bodies(steps) {
  const all = [];
  for (let i = 0; i < 5; ++i) all.push({ x: i * 1.5, y: Math.sin(i) * 3, z: i & 1, vx: 0, vy: 0.1 * i, vz: 0, mass: 1 + i });
  for (let step = 0; step < steps; ++step) {
    for (let i = 0; i < all.length; ++i) {
      const a = all[i];
      for (let j = i + 1; j < all.length; ++j) {
        const b = all[j], dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
        const square = dx * dx + dy * dy + dz * dz + 0.01, pull = 0.001 / (square * Math.sqrt(square));
        a.vx -= dx * b.mass * pull; a.vy -= dy * b.mass * pull; a.vz -= dz * b.mass * pull;
        b.vx += dx * a.mass * pull; b.vy += dy * a.mass * pull; b.vz += dz * a.mass * pull;
      }
    }
    for (const a of all) { a.x += a.vx * 0.01; a.y += a.vy * 0.01; a.z += a.vz * 0.01; }
  }
  return all.reduce((sum, a) => sum + a.x * 1000, 0);
}

// Calls whose target depends on the object.
class Circle { constructor(r) { this.r = r; } area() { return 3 * this.r * this.r; } }
class Box { constructor(w, h) { this.w = w; this.h = h; } area() { return this.w * this.h; } }
class Frame extends Box { area() { return super.area() - (this.w - 2) * (this.h - 2); } }
function shapes(rounds) {
  let sum = 0;
  for (let round = 0; round < rounds; ++round) {
    const list = [];
    for (let i = 0; i < 300; ++i) list.push(i % 3 === 0 ? new Circle(i) : i % 3 === 1 ? new Box(i, i + round) : new Frame(i + 3, 7));
    list.sort((a, b) => a.area() - b.area());
    sum = (sum + list[round % 300].area()) | 0;
  }
  return sum;
}

function sieve(limit) {
  const composite = new Uint8Array(limit);
  let count = 0;
  for (let i = 2; i < limit; ++i) {
    if (composite[i]) continue;
    ++count;
    for (let j = i * 2; j < limit; j += i) composite[j] = 1;
  }
  return count;
}

function words(rounds) {
  const counts = new Map();
  for (let i = 0; i < rounds; ++i) {
    const text = `item-${i % 97}-${(i * 7) % 13}`;
    for (const word of text.split('-')) counts.set(word, (counts.get(word) || 0) + 1);
    if (/^item-(\d)\1-/.test(text)) counts.set('pair', (counts.get('pair') || 0) + 1);
  }
  let sum = 0;
  for (const [word, count] of counts) sum += word.length * count;
  return sum;
}

note(bodies(40000 * size));
note(shapes(150 * size));
note(sieve(1200000 * size));
note(words(30000 * size));
console.log(`checksum ${checksum >>> 0}`);
