// Sethealth's official loader, where the internet is there. The page works without it too.
const LOADER = 'https://cdn.jsdelivr.net/npm/@sethealth/core@0.12.6/pkg/index.js';
const PATIENCE = 6000;

const within = (promise) => Promise.race([
  promise,
  new Promise((_, reject) => setTimeout(() => reject(new Error('it took too long')), PATIENCE)),
]);

// Resolves to { sethealth, status, text }; sethealth is undefined where setAccessToken cannot be called.
export async function loadSdk({ sethealthLoader = LOADER, sethealthKey = 'tokenvend-demo' }) {
  const absent = (why) => ({
    status: 'absent',
    text: `${why} So setAccessToken is shown here as a call, and not made.`,
  });
  if (!sethealthLoader) return absent('This demo was started without the official @sethealth/core loader.');
  let sethealth;
  try {
    sethealth = await within(import(sethealthLoader));
  } catch {
    return absent('The official @sethealth/core loader could not be fetched: there is no internet, or it is blocked.');
  }
  // Before initialize() every call of the loader throws; it says false where it failed.
  const ready = await within(sethealth.initialize(sethealthKey)).catch(() => false);
  if (!ready) return absent('The official @sethealth/core loader is here, but Sethealth itself did not start.');
  return { sethealth, status: 'loaded', text: 'The official @sethealth/core loader is here, and gets each token.' };
}
