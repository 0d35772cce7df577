// Calls of the REST service. The token stays in this tab's session storage.

const KEY = "triton-router-token";

export class Failure extends Error {}

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, authorization: `Bearer ${token}` } : { ...more };
}

// One dialog for all calls that wait for the token.
let asking = null;

function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, dialog.querySelector("input").value);
      asking = null;
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
