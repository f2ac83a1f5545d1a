// Asking the server: GET for what is read, POST for what is changed.

async function answer(response) {
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

export const address = (path, given = []) => `${path}?${new URLSearchParams(given)}`;
export const named = folders => folders.map(folder => ["run", folder]);
export const ask = async (path, given = []) => answer(await fetch(address(path, given)));
export const send = async (path, value, given = []) => answer(await fetch(address(path, given), {method: "POST", body: JSON.stringify(value)}));
export const sendFile = async (path, file, given = []) => answer(await fetch(address(path, given), {method: "POST", body: file}));

/** Of several questions only the newest may answer: returns null where a newer one was asked. */
export function newest() {
  let number = 0;
  return async asked => {
    const mine = ++number, told = await asked;
    return mine === number ? told : null;
  };
}
