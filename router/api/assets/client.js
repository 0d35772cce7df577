// Calls of the REST service. The token stays in this tab's session storage.

const KEY = "triton-router-token";

export class Failure extends Error {}

function headers(type) {
  const token = sessionStorage.getItem(KEY);
  try {
    return new Headers(token ? { ...type, authorization: `Bearer ${token}` } : type);
  } catch {
    // Characters that no header can carry: the router has no such token.
    return new Headers(type);
  }
}

// One dialog for all calls that wait for the token.
let asking = null;

function askToken() {
  asking ??= new Promise((resolve, reject) => {
    const dialog = document.getElementById("token");
    const field = dialog.querySelector("input");
    document.getElementById("token-title").textContent =
      sessionStorage.getItem(KEY) ? "The router rejects this token" : "A token is needed";
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      if (dialog.returnValue !== "use") return reject(new Failure("Without the token there is no data: reload the page to enter it."));
      sessionStorage.setItem(KEY, field.value);
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export async function open(path, { body, signal, stop = true } = {}) {
  const type = body === undefined ? {} : { "content-type": "application/json" };
  for (;;) {
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST",
        headers: headers(type),
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("The router does not answer.");
    }
    if (response.status === 401 && !response.headers.has("x-vsr-response-path")) {
      await askToken();
      continue;
    }
    if (stop && !response.ok) throw new Failure(await message(response));
    return response;
  }
}

async function message(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

export async function call(path, options) {
  return (await open(path, options)).json();
}

export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
  if (rest) yield rest;
}

export async function* events(response) {
  let name = "message";
  let data = [];
  for await (const line of lines(response)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    else if (line.trim() === "" && data.length) {
      yield { name, data: data.join("\n") };
      name = "message";
      data = [];
    }
  }
}
