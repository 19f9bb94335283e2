export function NotFound() {
  return (
    <main id="main" class="page">
      <h1>There is no such page</h1>
      <p>The address may be misspelt, or the part it belongs to is switched off. <a href="/">Go to the overview</a>.</p>
    </main>
  );
}
