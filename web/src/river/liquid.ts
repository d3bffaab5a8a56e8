// The liquid: particles on the sampled field, in WebGL2. A sketch for the eye; what is solved is drawn above it.
import { BEND, TINT } from "../wire/colours";
import { FADE, INK, QUAD, SCREEN, STEP, STILL, TRAIL } from "./shaders";
import type { Box, Samples } from "./samples";

type GL = WebGL2RenderingContext;
interface Target {
  texture: WebGLTexture;
  frame: WebGLFramebuffer;
}

const SPEED = 130; // pixels a second of the fastest water, bent
const RENEW = 0.006; // share of the particles that begin anew in a frame
const KEEP = 0.955; // of a trail that is left after a frame
const TINY = 64; // particles along a side to begin with; more where the machine is quick

export class Liquid {
  private readonly gl: GL;
  private readonly programs: Record<"step" | "trail" | "fade" | "still" | "screen", Program>;
  private readonly tint: WebGLTexture;
  private readonly field: WebGLTexture;
  private places: [Target, Target];
  private trails!: [Target, Target];
  private streaks!: Target;
  private samples: Samples | null = null;
  private box: Box = [0, 1, 0, 1];
  private ratio = 1;
  private width = 0;
  private height = 0;
  private seed = 1;
  private slow: number[] = [];
  private drawn = false;
  side = TINY;
  heavy = false; // a picture takes so long that what else the page does has to wait for it
  grows = true;
  trueTime = false;
  dark = true;

  /** Throws where there is no WebGL2 that can draw into floats. */
  constructor(private readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true });
    if (!gl || !gl.getExtension("EXT_color_buffer_float")) throw new Error("no WebGL2 with float targets");
    this.gl = gl;
    const make = (vertex: string, fragment: string) => new Program(gl, vertex, fragment);
    this.programs = {
      step: make(QUAD, STEP), trail: make(TRAIL, INK), fade: make(QUAD, FADE), still: make(QUAD, STILL), screen: make(QUAD, SCREEN),
    };
    gl.bindVertexArray(gl.createVertexArray());
    this.tint = this.texture(gl.RGB8, 256, 1, gl.RGB, gl.UNSIGNED_BYTE, Uint8Array.from(atob(TINT), (c) => c.charCodeAt(0)), gl.LINEAR);
    this.field = this.texture(gl.RGBA32F, 1, 1, gl.RGBA, gl.FLOAT, new Float32Array(4));
    this.places = this.scattered(TINY);
    this.resize();
  }

  /** Fit the drawing to the canvas's size on the screen. */
  resize(): void {
    const ratio = (this.ratio = Math.min(devicePixelRatio || 1, 2));
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (width === this.width && height === this.height) return;
    const gl = this.gl;
    for (const old of this.trails ? [...this.trails, this.streaks] : []) this.drop(old);
    this.canvas.width = this.width = width;
    this.canvas.height = this.height = height;
    const plain = () => this.target(this.texture(gl.RGBA8, width, height, gl.RGBA, gl.UNSIGNED_BYTE, null, gl.LINEAR));
    this.trails = [plain(), plain()];
    this.streaks = plain();
    this.drawn = false;
  }

  /** Take new samples. */
  take(samples: Samples): void {
    const { gl } = this;
    const n = samples.n;
    const all = new Float32Array(4 * n * n);
    for (let k = 0; k < n * n; k++) {
      const u = samples.u[k]!, v = samples.v[k]!;
      all[4 * k] = Number.isFinite(u) ? u : 0;
      all[4 * k + 1] = Number.isFinite(v) ? v : 0;
      all[4 * k + 2] = samples.leak?.[k] || 0;
    }
    this.samples = samples;
    gl.bindTexture(gl.TEXTURE_2D, this.field);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, n, n, 0, gl.RGBA, gl.FLOAT, all);
    this.drawn = false;
  }

  /** Look at a box. */
  look(box: Box): void {
    const same = box.every((x, k) => x === this.box[k]);
    this.box = box;
    if (!same) this.clear();
  }

  /** Begin anew: no trails, streaks to be drawn again. */
  clear(): void {
    for (const one of this.trails) {
      this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, one.frame);
      this.gl.clearColor(0, 0, 0, 0);
      this.gl.clear(this.gl.COLOR_BUFFER_BIT);
    }
    this.drawn = false;
  }

  /** Move the water by some seconds of the clock on the wall, and draw. */
  frame(seconds: number): void {
    if (!this.samples) return;
    const began = performance.now();
    this.streak();
    const dt = this.pace() * Math.min(seconds, 0.05);
    this.step(dt, this.trueTime ? 1 : BEND, RENEW);
    this.paint(Math.pow(KEEP, Math.min(seconds, 0.1) * 60));
    this.show(0.5);
    this.pacing(seconds * 1000, performance.now() - began);
  }

  /** A picture that stands still: streaks alone. */
  still(): void {
    if (!this.samples) return;
    this.streak();
    this.clearTrails();
    this.show(1);
  }

  /** Run the true shader on points of ours and return where they are: for tests of the shader itself. */
  trial(points: number[][], steps: number, dt: number): number[][] {
    const { gl } = this;
    const side = Math.ceil(Math.sqrt(points.length));
    const [x0, x1, y0, y1] = this.box;
    const data = new Float32Array(4 * side * side);
    points.forEach(([x, y], k) => data.set([(x! - x0) / (x1 - x0), (y! - y0) / (y1 - y0), 0, 0], 4 * k));
    const kept = this.places;
    const keptSide = this.side;
    const one = () => this.target(this.texture(gl.RGBA32F, side, side, gl.RGBA, gl.FLOAT, data));
    this.places = [one(), one()];
    this.side = side;
    for (let k = 0; k < steps; k++) this.step(dt, 1, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.places[0].frame);
    gl.readPixels(0, 0, side, side, gl.RGBA, gl.FLOAT, data);
    this.places.forEach((p) => this.drop(p));
    this.places = kept;
    this.side = keptSide;
    return points.map((_, k) => [x0 + data[4 * k]! * (x1 - x0), y0 + data[4 * k + 1]! * (y1 - y0)]);
  }

  /** Flow time in a second of the wall's clock: the fastest water goes SPEED pixels. */
  private pace(): number {
    const s = this.samples!;
    const [x0, x1, y0, y1] = this.box;
    const pixel = Math.hypot(x1 - x0, y1 - y0) / Math.hypot(this.canvas.clientWidth, this.canvas.clientHeight);
    return (SPEED * pixel) / s.fast;
  }

  private step(dt: number, bend: number, renew: number): void {
    const { gl } = this;
    const p = this.programs.step.use();
    this.seed = (this.seed * 1.618033 + 0.1) % 1000;
    this.fieldOf(p, bend);
    p.texture("places", 1, this.places[0].texture).float("dt", dt).float("seed", this.seed).float("renew", renew);
    this.into(this.places[1], this.side, this.side);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    this.places.reverse();
  }

  private paint(keep: number): void {
    const { gl } = this;
    this.into(this.trails[1], this.width, this.height);
    this.programs.fade.use().texture("trails", 0, this.trails[0].texture).float("keep", keep);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    const s = this.samples!;
    const p = this.programs.trail.use();
    this.fieldOf(p, 1);
    p.texture("before", 3, this.places[1].texture).texture("places", 1, this.places[0].texture)
      .texture("tint", 2, this.tint).vec("levels", [s.low, s.high]).float("strength", 0.85).float("darken", this.dark ? 1.12 : 0.62).vec("dull", this.dull());
    gl.drawArrays(gl.LINES, 0, 2 * this.side * this.side);
    gl.disable(gl.BLEND);
    this.trails.reverse();
  }

  private streak(): void {
    if (this.drawn) return;
    const s = this.samples!;
    const p = this.programs.still.use();
    this.fieldOf(p, 1);
    p.vec("size", [this.width, this.height]).vec("levels", [s.low, s.high]).float("longest", 88 * this.ratio).float("grain", 4.2 * this.ratio).float("dense", this.ratio);
    this.into(this.streaks, this.width, this.height);
    this.gl.drawArrays(this.gl.TRIANGLES, 0, 3);
    this.drawn = true;
  }

  private show(still: number): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, this.width, this.height);
    this.programs.screen.use().texture("trails", 0, this.trails[0].texture).texture("streaks", 1, this.streaks.texture)
      .texture("tint", 2, this.tint).vec("size", [this.width, this.height]).vec("dull", this.dull()).vec("ground", this.dark ? [0.043, 0.063, 0.125] : [0.965, 0.962, 0.945])
      .float("darken", this.dark ? 1 : 0.66).float("still", still);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** The grey of water that leaks. */
  private dull(): number[] {
    return this.dark ? [0.36, 0.37, 0.4] : [0.62, 0.62, 0.61];
  }

  /** Grow or shrink the crowd to what the machine draws in good time. */
  private pacing(frame: number, own: number): void {
    this.slow.push(frame);
    if (this.slow.length < 24) return;
    const middle = this.slow.sort((a, b) => a - b)[12]!;
    this.slow = [];
    this.heavy = middle > 30;
    if (!this.grows) return;
    const next = middle < 21 && own < 6 ? this.side * 2 : middle > 45 ? this.side / 2 : this.side;
    if (next !== this.side && next >= 32 && next <= 256) {
      this.places.forEach((p) => this.drop(p));
      this.places = this.scattered(next);
      if (next < this.side) this.grows = false; // do not swing to and fro
      this.side = next;
    }
  }

  private fieldOf(p: Program, bend: number): void {
    const s = this.samples!;
    const [x0, x1, y0, y1] = this.box;
    const [a0, a1, b0, b1] = s.box;
    p.texture("field", 0, this.field).vec("view", [x0, y0, x1 - x0, y1 - y0]).vec("spread", [a0, b0, a1 - a0, b1 - b0])
      .float("bend", bend).float("fast", s.fast);
  }

  private scattered(side: number): [Target, Target] {
    const data = new Float32Array(4 * side * side);
    for (let k = 0; k < side * side; k++) data.set([Math.random(), Math.random(), 0, 0], 4 * k);
    const { gl } = this;
    const one = () => this.target(this.texture(gl.RGBA32F, side, side, gl.RGBA, gl.FLOAT, data));
    return [one(), one()];
  }

  private clearTrails(): void {
    const drawn = this.drawn;
    this.clear();
    this.drawn = drawn;
  }

  private texture(format: number, w: number, h: number, layout: number, kind: number, data: ArrayBufferView | null, filter?: number): WebGLTexture {
    const { gl } = this;
    const made = gl.createTexture()!;
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, w, h, 0, layout, kind, data);
    for (const which of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, which, filter ?? gl.NEAREST);
    for (const which of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, which, gl.CLAMP_TO_EDGE);
    return made;
  }

  private target(texture: WebGLTexture): Target {
    const { gl } = this;
    const frame = gl.createFramebuffer()!;
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    return { texture, frame };
  }

  private into(target: Target, width: number, height: number): void {
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, target.frame);
    this.gl.viewport(0, 0, width, height);
  }

  private drop(target: Target): void {
    this.gl.deleteFramebuffer(target.frame);
    this.gl.deleteTexture(target.texture);
  }

  /** Let the graphics memory go. */
  end(): void {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

class Program {
  private readonly made: WebGLProgram;
  private readonly places = new Map<string, WebGLUniformLocation | null>();

  constructor(private readonly gl: GL, vertex: string, fragment: string) {
    this.made = gl.createProgram()!;
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]] as const) {
      const shader = gl.createShader(kind)!;
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(this.made, shader);
    }
    gl.linkProgram(this.made);
    if (!gl.getProgramParameter(this.made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(this.made) ?? "shader");
  }

  use(): this {
    this.gl.useProgram(this.made);
    return this;
  }

  private at(name: string): WebGLUniformLocation | null {
    if (!this.places.has(name)) this.places.set(name, this.gl.getUniformLocation(this.made, name));
    return this.places.get(name)!;
  }

  float(name: string, x: number): this {
    this.gl.uniform1f(this.at(name), x);
    return this;
  }

  vec(name: string, xs: number[]): this {
    const at = this.at(name);
    if (xs.length === 2) this.gl.uniform2fv(at, xs);
    else if (xs.length === 3) this.gl.uniform3fv(at, xs);
    else this.gl.uniform4fv(at, xs);
    return this;
  }

  texture(name: string, unit: number, texture: WebGLTexture): this {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(this.gl.TEXTURE_2D, texture);
    this.gl.uniform1i(this.at(name), unit);
    return this;
  }
}
