// The liquid in GLSL. Positions are shares of the view, 0..1 from its lower left corner; the field is in its own units, on a
// texture over its own box, so that the view may move before the field was sampled anew.

const FIELD = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D field;   // dθ₁/dt, dθ₂/dt, and the share of the whole rate that leaves the picture
uniform vec4 view;         // θ₁ from, θ₂ from, width, height
uniform vec4 spread;       // the same of the box that was sampled
uniform float bend;        // 1: true speed; less: ‖v‖ to this power
uniform float fast;        // ‖v‖ that the bent speed is measured by

// Bilinear by hand: the hardware's own has eight bits between two samples, which a path would feel.
vec3 sounded(vec2 at) {
  vec2 theta = view.xy + at * view.zw;
  ivec2 size = textureSize(field, 0);
  vec2 x = clamp((theta - spread.xy) / spread.zw, 0.0, 1.0) * vec2(size - 1);
  ivec2 i = min(ivec2(x), size - 2);
  vec2 f = x - vec2(i);
  vec3 a = texelFetch(field, i, 0).rgb, b = texelFetch(field, i + ivec2(1, 0), 0).rgb;
  vec3 c = texelFetch(field, i + ivec2(0, 1), 0).rgb, d = texelFetch(field, i + ivec2(1, 1), 0).rgb;
  return mix(mix(a, b, f.x), mix(c, d, f.x), f.y);
}
vec2 sampled(vec2 at) { return sounded(at).rg; }

// Cubic (Catmull–Rom) through sixteen samples: what a particle feels, so that it stays on its path.
vec4 weights(float f) {
  return vec4(f * (-0.5 + f * (1.0 - 0.5 * f)), 1.0 + f * f * (-2.5 + 1.5 * f), f * (0.5 + f * (2.0 - 1.5 * f)), f * f * (0.5 * f - 0.5));
}
vec2 felt(vec2 at) {
  vec2 theta = view.xy + at * view.zw;
  ivec2 size = textureSize(field, 0);
  vec2 x = clamp((theta - spread.xy) / spread.zw, 0.0, 1.0) * vec2(size - 1);
  ivec2 i = min(ivec2(x), size - 2);
  vec4 a = weights(x.x - float(i.x)), b = weights(x.y - float(i.y));
  vec2 sum = vec2(0.0);
  for (int k = 0; k < 4; k++) for (int m = 0; m < 4; m++)
    sum += a[m] * b[k] * texelFetch(field, clamp(i + ivec2(m, k) - 1, ivec2(0), size - 1), 0).rg;
  return sum;
}

// dθ/dt in shares of the view; the direction stays what it is, the speed is bent.
vec2 rate(vec2 at) {
  vec2 v = felt(at);
  float s = length(v);
  return v * pow(max(s, 1e-30) / fast, bend - 1.0) / view.zw;
}
`;

export const QUAD = `#version 300 es
void main() { gl_Position = vec4(vec2((gl_VertexID << 1) & 2, gl_VertexID & 2) * 2.0 - 1.0, 0.0, 1.0); }`;

/** One step of classical Runge–Kutta for every particle; some begin anew, or all water would end in the minima. */
export const STEP = `${FIELD}
uniform sampler2D places;  // x, y, age in steps, share of the fastest
uniform float dt;
uniform float seed;
uniform float renew;       // share of the particles that begin anew in a step
out vec4 place;

float chance(vec2 p) {
  uvec2 q = uvec2(ivec2(p)) * uvec2(1597334677u, 3812015801u);
  uint n = (q.x ^ q.y) * 1597334677u;
  n ^= n >> 15; n *= 2246822519u; n ^= n >> 13;
  return float(n) / 4294967295.0;
}

void main() {
  ivec2 id = ivec2(gl_FragCoord.xy);
  vec4 was = texelFetch(places, id, 0);
  vec2 p = was.xy;
  vec2 k1 = rate(p);
  vec2 k2 = rate(p + 0.5 * dt * k1);
  vec2 k3 = rate(p + 0.5 * dt * k2);
  vec2 k4 = rate(p + dt * k3);
  vec2 q = p + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
  float moved = length((q - p) * view.zw);
  float speed = length(sampled(p));
  vec2 key = vec2(id) + fract(seed * vec2(0.7548, 0.5698)) * 65536.0;
  bool out_ = any(lessThan(q, vec2(-0.02))) || any(greaterThan(q, vec2(1.02)));
  bool lost = !(moved < 1e9) || moved > 0.2 * length(view.zw);
  bool still = moved < 2e-5 * length(view.zw);
  float more = still ? 0.08 : renew;
  if (renew > 0.0 && (out_ || lost || chance(key) < more)) {
    place = vec4(chance(key + 17.0), chance(key + 91.0), 0.0, 0.0);
  } else {
    place = vec4(q, was.z + 1.0, speed);
  }
}`;

/** A short line from where each particle was to where it is. */
export const TRAIL = `${FIELD}
uniform sampler2D before;
uniform sampler2D places;
uniform vec2 levels;       // log10 of the slow and the fast end of the colours
out float level;
out float fresh;
out float lost;
void main() {
  int side = textureSize(places, 0).x;
  int k = gl_VertexID / 2;
  ivec2 id = ivec2(k % side, k / side);
  vec4 now = texelFetch(places, id, 0);
  vec4 was = texelFetch(before, id, 0);
  vec2 p = gl_VertexID % 2 == 0 || now.z < 0.5 ? now.xy : was.xy;
  level = clamp((log(max(now.w, 1e-30)) / 2.302585 - levels.x) / (levels.y - levels.x), 0.0, 1.0);
  fresh = min(now.z / 6.0, 1.0);
  lost = sounded(now.xy).b;
  gl_Position = vec4(p * 2.0 - 1.0, 0.0, 1.0);
}`;

export const INK = `#version 300 es
precision highp float;
uniform sampler2D tint;
uniform float strength;
uniform float darken;
uniform vec3 dull;
in float level;
in float fresh;
in float lost;
out vec4 colour;
void main() {
  vec3 c = texture(tint, vec2(level * 0.996 + 0.002, 0.5)).rgb * darken;
  float grey = smoothstep(0.05, 0.75, lost);
  c = mix(c, dull * (0.75 + 0.5 * level), grey);
  float a = strength * fresh * (0.45 + 0.55 * level) * (1.0 - 0.45 * grey);
  colour = vec4(c * a, a);
}`;

export const FADE = `#version 300 es
precision highp float;
uniform sampler2D trails;
uniform float keep;
out vec4 colour;
void main() {
  vec4 was = texelFetch(trails, ivec2(gl_FragCoord.xy), 0);
  colour = max(vec4(0.0), floor(was * 255.0 * keep) / 255.0);
}`;

/** Streaks that stand still (line integral convolution of sparse dots, brighter towards where the flow goes). */
export const STILL = `${FIELD}
uniform vec2 size;         // pixels
uniform vec2 levels;
uniform float grain;       // pixels between two dots
uniform float dense;       // pixels of the screen to one of the page
uniform float longest;     // pixels of a streak where the water is fastest
out vec4 ink;              // strength, level of the colour, leak

float dot_(vec2 p) {
  ivec2 cell = ivec2(floor(p / grain)) + 4096;
  uvec2 q = uvec2(cell) * uvec2(1597334677u, 3812015801u);
  uint n = (q.x ^ q.y) * 1597334677u;
  n ^= n >> 15; n *= 2246822519u; n ^= n >> 13;
  float r = float(n) / 4294967295.0;
  uint m = n * 2654435761u;
  vec2 middle = 0.3 + 0.4 * vec2(float(m & 65535u), float(m >> 16)) / 65535.0;
  vec2 off = (fract(p / grain) - middle) * grain / dense;
  return max(0.0, 1.0 - dot(off, off) / 1.3) * (r < 0.5 ? 0.0 : 0.25 + 3.0 * pow(2.0 * r - 1.0, 3.0));
}

void main() {
  vec2 p = gl_FragCoord.xy;
  vec3 there = sounded(p / size);
  vec2 v0 = there.rg;
  float s0 = length(v0);
  float level = clamp((log(max(s0, 1e-30)) / 2.302585 - levels.x) / (levels.y - levels.x), 0.0, 1.0);
  float reach = longest * clamp(pow(10.0, 0.35 * (levels.y - levels.x) * (level - 1.0)), 0.12, 1.0);
  const int N = 34;
  float stride = reach / float(N);
  float sum = dot_(p), weight = 1.0;
  vec2 q = p;
  for (int k = 1; k <= N; k++) {       // upstream: light that came down to here
    vec2 v = sampled(q / size) * size / view.zw;
    float s = length(v);
    if (!(s > 1e-30) || s > 1e30) break;
    vec2 h = q - 0.5 * stride * v / s;
    vec2 w = sampled(h / size) * size / view.zw;
    q -= stride * w / max(length(w), 1e-30);
    float a = 1.0 - float(k) / float(N + 1);
    a *= a;
    sum += a * dot_(q);
    weight += a;
  }
  ink = vec4(1.0 - exp(-1.15 * sum / sqrt(weight)), level, there.b, 1.0);
}`;

/** Ground, still streaks, moving trails. */
export const SCREEN = `#version 300 es
precision highp float;
uniform sampler2D trails;
uniform sampler2D streaks;
uniform sampler2D tint;
uniform vec2 size;
uniform vec3 ground;
uniform float darken;
uniform float still;       // strength of the streaks
uniform vec3 dull;         // of water that leaks
out vec4 colour;
void main() {
  vec2 at = gl_FragCoord.xy / size;
  vec4 s = texture(streaks, at);
  vec3 c = texture(tint, vec2(s.g * 0.996 + 0.002, 0.5)).rgb * darken;
  float grey = smoothstep(0.05, 0.75, s.b);
  c = mix(c, dull, grey);
  vec3 base = mix(ground, c, mix(0.05 + 0.05 * s.g, 0.3, grey));
  base = mix(base, c, s.r * still * (0.58 + 0.30 * s.g));
  vec4 t = texture(trails, at);
  colour = vec4(base * (1.0 - t.a) + t.rgb, 1.0);
}`;
