"""Runs a real Firefox without a window, and does in it what Firefox's own features do with model hubs.

    drive.py --profile DIR [--firefox PATH] [--pref NAME=JSON]... [--ca FILE]...
             [--proxy HOST:PORT] [--policies FILE] [--timeout SECONDS]

The profile is made where there is none; a second run on the same one is a restart, and keeps its preferences. The
first line on stdout is {"ok": {"firefox": VERSION}}. Then each line on stdin is a command in JSON, and each gets one
line on stdout, {"ok": VALUE} or {"error": TEXT}. Firefox ends when stdin does, or on SIGTERM. Its output is in
DIR/firefox.log.

    {"do": "file", "model": M, "revision": R, "file": F}     loads a file as an engine would: sha256, size and headers
    {"do": "models"}                                         what is held: models with their files, and stored files
    {"do": "engine", "options": {...}, "run": {...}}         createEngine() and run(): its vectors
    {"do": "tls", "host": H} or {"do": "tls", "url": U}      whether the certificate is accepted, and if not, why
    {"do": "settings", "allow": [PREFIX...]}                 Remote Settings: holds these prefixes of allowed hubs
    {"do": "policies"}                                       the state of the enterprise policies, and which there are
    {"do": "server"}                                         the server of Remote Settings, and where attachments are
    {"do": "sync", "collection": C}                          brings a collection up to date: its records and timestamp
    {"do": "poll"}                                           brings all up to date that are held, as once a day
    {"do": "records", "collection": C}                       the records that are held; brings them first if none are
    {"do": "attachment", "collection": C, "id": RECORD}      its attachment, from the cache if there: sha256 and size

`file` takes "root" and "template" too, where it is not the hub of the preferences. Firefox itself allows hubs on
localhost only; which others, it has from the collection `ml-model-allow-deny-list` of Remote Settings. Where there is
no server for that, they come from "allow".

The server of Remote Settings is that of --pref services.settings.server='"http://localhost:PORT/rs/v1"', and none
without it. `sync`, `records` and `attachment` take "bucket" too, where it is not `main`, and "verify": true where
Mozilla's signature is to be checked; `poll` does with a collection as the last of them did, and checks all others.
Which root the signature must come from depends on the server's URL.

Policies are read from the folder of the application: with --policies Firefox starts from a copy of it in DIR/app, which
consists of links but for the program. `SysConfD`/policies/policies.json (/etc/firefox) would come before it.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from marionette_driver.marionette import Marionette

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# How long Firefox may take to accept commands, and to end.
START = 90
END = 20

# Firefox refuses to connect to this port, whatever the host.
NOWHERE = "http://127.0.0.1:9"

# What is set here keeps its value; Marionette replaces much of the rest.
PREFS = {
    "browser.ml.enable": True,
    "browser.ml.checkForMemory": False,
    # Port 0: Firefox chooses one and writes it into the profile.
    "marionette.port": 0,
    # A network without a way out is no reason to be offline.
    "network.manage-offline-status": False,
    "network.proxy.type": 0,
    # Nothing is to be asked for but what commands ask for.
    "services.settings.server": f"{NOWHERE}/v1",
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "app.update.disabledForTesting": True,
    "browser.aboutHomeSnippets.updateUrl": "",
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.safebrowsing.provider.google4.updateURL": "",
    "browser.safebrowsing.provider.google5.updateURL": "",
    "browser.safebrowsing.provider.mozilla.updateURL": "",
    "browser.search.geoSpecificDefaults": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "browser.startup.page": 0,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": NOWHERE,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.http.speculative-parallel-limit": 0,
    "network.prefetch-next": False,
    "network.trr.mode": 5,
    "security.OCSP.enabled": 0,
    "security.remote_settings.crlite_filters.enabled": False,
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": NOWHERE,
    "toolkit.telemetry.unified": False,
}

# Answers to each command, in the scope of a browser window. Arguments: the command, and what takes the answer.
SCRIPT = """
const { ModelHub } = ChromeUtils.importESModule("chrome://global/content/ml/ModelHub.sys.mjs");
const { createEngine, EngineProcess } =
    ChromeUtils.importESModule("chrome://global/content/ml/EngineProcess.sys.mjs");
const { MLEngineParent } = ChromeUtils.importESModule("resource://gre/actors/MLEngineParent.sys.mjs");
const { RemoteSettings } = ChromeUtils.importESModule("resource://services-settings/remote-settings.sys.mjs");
const { Utils } = ChromeUtils.importESModule("resource://services-settings/Utils.sys.mjs");

const [command, answer] = arguments;
const ALLOWED = "ml-model-allow-deny-list";

async function digest(buffer) {
    const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
    return { sha256: Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join(""), size: buffer.byteLength };
}

// A hub as the engine makes one; its database is closed after use.
async function withHub({ root, template }, use) {
    const rootUrl = root ?? Services.prefs.getStringPref("browser.ml.modelHubRootUrl");
    const urlTemplate = template ?? Services.prefs.getStringPref("browser.ml.modelHubUrlTemplate");
    const hub = new ModelHub({ rootUrl, urlTemplate, allowDenyList: await MLEngineParent.getAllowDenyList() });
    try {
        return await use(hub, rootUrl, urlTemplate);
    } finally {
        await hub.cache?.dispose();
    }
}

// A collection; the first who names it decides on its bucket.
function collected({ collection, bucket, verify = false }) {
    const client = RemoteSettings(collection, bucket ? { bucketName: bucket } : {});
    if (bucket && client.bucketName != bucket) {
        throw new Error(`${collection} is in ${client.bucketName} already`);
    }
    client.verifySignature = verify;
    return client;
}

async function stored(folder, path = "") {
    const files = [];
    for await (const [name, entry] of folder.entries()) {
        if (entry.kind == "directory") {
            files.push(...(await stored(entry, `${path}${name}/`)));
        } else {
            files.push({ path: path + name, size: (await entry.getFile()).size });
        }
    }
    return files;
}

const commands = {
    file({ model, revision, file, root, template }) {
        return withHub({ root, template }, async (hub, modelHubRootUrl, modelHubUrlTemplate) => {
            const [buffer, headers] = await hub.getModelFileAsArrayBuffer({
                engineId: "default-engine", taskName: "test", model, revision, file,
                modelHubRootUrl, modelHubUrlTemplate,
            });
            return { ...(await digest(buffer)), headers };
        });
    },

    models() {
        return withHub({}, async hub => {
            const models = [];
            for (const { name, revision, taskName } of await hub.listModels()) {
                const listed = await hub.listFiles({ model: name, revision });
                const files = listed.files.map(({ path, headers }) => ({ path, headers }));
                models.push({ name, revision, task: taskName, files });
            }
            return { models, stored: await stored(await navigator.storage.getDirectory()) };
        });
    },

    async engine({ options, run }) {
        const engine = await createEngine(options);
        try {
            const { output } = await engine.run(run);
            return { vectors: Array.from(output, vector => Array.from(vector)) };
        } finally {
            // The next one begins from what is held.
            await EngineProcess.destroyMLEngine();
        }
    },

    async tls({ host, url = `https://${host}/` }) {
        const request = new XMLHttpRequest({ mozAnon: true });
        request.open("HEAD", url);
        const { promise, resolve } = Promise.withResolvers();
        request.onloadend = resolve;
        request.send();
        await promise;
        const security = request.channel.securityInfo;
        const failure = Object.keys(Cr).find(name => Cr[name] == request.channel.status);
        return {
            accepted: request.status != 0,
            status: request.status,
            error: security?.errorCodeString || (request.status ? null : failure ?? `${request.channel.status}`),
            subject: security?.serverCert?.subjectName ?? null,
            issuer: security?.serverCert?.issuerName ?? null,
        };
    },

    async settings({ allow }) {
        const client = RemoteSettings(ALLOWED);
        client.verifySignature = false;
        const records = allow.map((urlPrefix, at) => ({ id: `allowed-${at}`, filter: "ALLOW", urlPrefix }));
        await client.db.importChanges({}, Date.now(), records, { clear: true });
    },

    async policies() {
        const states = { [-1]: "uninitialized", 0: "inactive", 1: "active", 2: "failed" };
        return { state: states[Services.policies.status], active: Services.policies.getActivePolicies() ?? {} };
    },

    async server() {
        return { server: Utils.SERVER_URL, attachments: await Utils.baseAttachmentsURL() };
    },

    async sync(asked) {
        const client = collected(asked);
        await client.sync();
        return { records: await client.get({ syncIfEmpty: false }), timestamp: await client.getLastModified() };
    },

    async poll() {
        await RemoteSettings.pollChanges();
    },

    async records(asked) {
        return { records: await collected(asked).get({ syncIfEmpty: true }) };
    },

    async attachment({ id, ...asked }) {
        const client = collected(asked);
        const record = (await client.get({ syncIfEmpty: false })).find(held => held.id == id);
        if (!record) {
            throw new Error(`${id} is not held`);
        }
        const { buffer, _source } = await client.attachments.download(record);
        return { ...(await digest(buffer)), source: _source };
    },
};

Promise.try(() => commands[command.do](command)).then(
    value => answer({ ok: value ?? null }),
    error => answer({ error: `${error?.name ?? "Error"}: ${error?.message ?? error}` }),
);
"""

IMPORT = """
Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(arguments[0], "CT,,");
"""

QUIT = """
Services.tm.dispatchToMainThread(() => Services.startup.quit(Ci.nsIAppStartup.eForceQuit));
"""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    flags = parsed()
    with contextlib.ExitStack() as stack:
        try:
            client = started(stack, flags)
        except Exception as error:
            say({"error": f"Firefox did not start: {error}"})
            sys.exit(1)
        say({"ok": {"firefox": client.session_capabilities["browserVersion"]}})
        for line in sys.stdin:
            say(answered(client, line))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=lambda path: pathlib.Path(path).absolute(), required=True)
    parser.add_argument("--firefox", default="firefox-esr")
    parser.add_argument("--pref", action="append", default=[], type=lambda text: text.split("=", 1))
    parser.add_argument("--ca", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--proxy")
    parser.add_argument("--policies", type=pathlib.Path)
    parser.add_argument("--timeout", type=float, default=120, help="for one command")
    return parser.parse_args()


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def answered(client: Marionette, line: str) -> dict:
    try:
        return client.execute_async_script(SCRIPT, script_args=[json.loads(line)])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def started(stack: contextlib.ExitStack, flags: argparse.Namespace) -> Marionette:
    """Starts Firefox and waits until it takes commands; `stack` ends it."""
    flags.profile.mkdir(parents=True, exist_ok=True)
    (flags.profile / "user.js").write_text(user_js(flags))
    port_file = flags.profile / "MarionetteActivePort"
    port_file.unlink(missing_ok=True)

    program = shutil.which(flags.firefox)
    if program is None:
        raise FileNotFoundError(flags.firefox)
    if flags.policies:
        program = with_policies(pathlib.Path(program), flags.policies, flags.profile / "app")
    process = launched(stack, program, flags)

    deadline = time.monotonic() + START
    while not (port_file.exists() and port_file.read_text().strip()):
        if process.poll() is not None:
            raise ChildProcessError(f"it ended with {process.returncode}; see {flags.profile}/firefox.log")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it takes no commands after {START} s; see {flags.profile}/firefox.log")
        time.sleep(0.05)
    client = Marionette(port=int(port_file.read_text()), socket_timeout=flags.timeout + 30)
    # There is nothing to clean up but the process, and that is not the client's.
    client.cleanup_ran = True
    client.start_session()
    stack.callback(quit, client, process)
    client.set_context(client.CONTEXT_CHROME)
    client.timeout.script = flags.timeout
    for ca in flags.ca:
        for certificate in re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END", ca.read_text(), re.DOTALL):
            client.execute_script(IMPORT, script_args=["".join(certificate.split())])
    return client


def user_js(flags: argparse.Namespace) -> str:
    prefs = {**PREFS, **proxy_prefs(flags), **{name: json.loads(value) for name, value in flags.pref}}
    if flags.policies and prefs["network.proxy.type"] == 0:
        # The user's choice would come before that of a policy that is not locked.
        del prefs["network.proxy.type"]
    return "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in prefs.items())


def proxy_prefs(flags: argparse.Namespace) -> dict:
    """A proxy for everything but localhost, without a way past it."""
    if not flags.proxy:
        return {}
    prefs = {
        "network.proxy.allow_bypass": False,
        "network.proxy.allow_hijacking_localhost": False,
        "network.proxy.failover_direct": False,
        "network.proxy.no_proxies_on": "",
    }
    host, port = flags.proxy.rsplit(":", 1)
    prefs["network.proxy.type"] = 1
    for kind in ("http", "ssl"):
        prefs |= {f"network.proxy.{kind}": host, f"network.proxy.{kind}_port": int(port)}
    return prefs


def with_policies(program: pathlib.Path, policies: pathlib.Path, app: pathlib.Path) -> str:
    """A copy of the application that has these policies; Firefox finds its folder by where the program lies."""
    program = program.resolve()
    shutil.rmtree(app, ignore_errors=True)
    (app / "distribution").mkdir(parents=True)
    for entry in program.parent.iterdir():
        if entry.name not in ("distribution", program.name):
            (app / entry.name).symlink_to(entry)
    shutil.copy2(program, app / program.name)
    shutil.copy(policies, app / "distribution/policies.json")
    return str(app / program.name)


def launched(stack: contextlib.ExitStack, program: str, flags: argparse.Namespace) -> subprocess.Popen:
    environment = {
        **os.environ,
        "MOZ_CRASHREPORTER_DISABLE": "1",
        # Without it a release takes no notice of services.settings.server.
        "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1",
    }
    options = ["--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile"]
    log = stack.enter_context(open(flags.profile / "firefox.log", "ab"))
    process = subprocess.Popen(
        [program, *options, flags.profile],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    stack.callback(ended, process)
    return process


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def quit(client: Marionette, process: subprocess.Popen) -> None:
    """Lets Firefox end by itself, and write down what it has; its answer may be that of a command in work."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if process.poll() is not None:
        return
    client.client.socket_timeout = END
    with contextlib.suppress(Exception):
        client.execute_script(QUIT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END)


def ended(process: subprocess.Popen) -> None:
    """Leaves none of its processes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Those that it left have become children of this process.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


main()
