// Loads Sethealth's official loader.
const LOADER = 'https://cdn.jsdelivr.net/npm/@sethealth/core@0.12.6/pkg/index.js';
const TIMEOUT = 6000;

const within = (promise) => Promise.race([
  promise,
  new Promise((_, reject) => setTimeout(() => reject(new Error('timeout')), TIMEOUT)),
]);

// Resolves to { sethealth }, or to { problem } if setAccessToken cannot be called.
export async function loadSdk() {
  try {
    const sethealth = await within(import(LOADER));
    // Calls throw before initialize(), which resolves to false if it fails.
    if (await within(sethealth.initialize('tokenvend-demo'))) return { sethealth };
    return { problem: '@sethealth/core is loaded, but its initialize() failed.' };
  } catch {
    return { problem: '@sethealth/core could not be loaded: there is no internet, or it is blocked.' };
  }
}
