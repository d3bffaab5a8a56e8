// Depth: the gradient's way through the layers. Its screen begins here.
export function Depth() {
  return (
    <main class="page">
      <h1>Depth</h1>
      <p>gradientflow run train.py watches a training script and writes this picture as a page today.</p>
    </main>
  );
}
