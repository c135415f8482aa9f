//! What Firefox has to be told.

use serde_json::json;

use super::{Guide, Server};

pub(super) fn guide(mode: &str, server: &Server) -> Guide {
    match mode {
        "localhost" => localhost(server),
        "lab" => lab(server),
        _ => proxy(server),
    }
}

/// Hubs and Remote Settings through this server, by enterprise policy; it reaches every feature of a stock Firefox.
fn proxy(server: &Server) -> Guide {
    let pac = format!("{}/proxy.pac", server.url());
    let off = json!({"Value": false, "Status": "locked"});
    let policies = json!({
        "policies": {
            "Proxy": {"Mode": "autoConfig", "AutoConfigURL": pac},
            "Certificates": {"Install": [server.certificate]},
            "Preferences": {
                "network.proxy.allow_bypass": off,
                "network.proxy.failover_direct": off,
            },
        }
    });
    let policies = format!("{policies:#}\n");
    let text = format!(
        "\
Firefox, as its proxy: every feature of a stock Firefox is reached, also those that name their hub themselves.

1. The server intercepts tunnels to the hubs:  hubcache serve --intercept
   Where other machines use it, it listens on an address they reach, with --access anonymous.

2. This is policies.json. It goes to /etc/firefox/policies/ on Linux, or to the directory distribution/ beside the
   program (Windows, and Firefoxes that come with their own directory), or it becomes a group policy or a profile of
   the device management. The certificate must be where it says on the machine of the Firefox.

{policies}
3. Restart Firefox. about:policies shows what is in force, and about:config#network.proxy the proxy.

The file {pac} sends the hosts of the hubs and of
Remote Settings to this server, and nothing else; ordinary browsing never touches it.
allow_bypass and failover_direct are off because Firefox would otherwise fetch Remote Settings past a proxy that is
not there, and you would see an inconsistent mixture of what was reached directly and what was not.
"
    );
    Guide { text, files: vec![("policies.json", policies)], needs_certificate: true }
}

/// A preference, for the Firefox of this machine.
fn localhost(server: &Server) -> Guide {
    let url = format!("http://localhost:{}/", server.at.port);
    let prefs = prefs(&url);
    let text = format!(
        "\
Firefox, with the hub on localhost: for a server and a Firefox on the same machine; no certificate is needed.

Set these in about:config, or put them into user.js in the profile (about:profiles shows where that is):

{prefs}
Firefox accepts model hubs on localhost and no other spelling of it, 127.0.0.1 included. Features that name their hub
themselves (link preview, embeddings) do not read this preference and go to the hub directly; --mode proxy reaches them.
"
    );
    Guide { text, files: vec![("user.js", prefs)], needs_certificate: false }
}

/// A preference and a variable, for labs and test machines.
fn lab(server: &Server) -> Guide {
    let prefs = prefs(&format!("{}/", server.url()));
    let environment = "MOZ_ALLOW_EXTERNAL_ML_HUB=1\n".to_owned();
    let text = format!(
        "\
Firefox in a lab, with the hub anywhere: no certificate is needed, but Firefox must be started with a variable that
lets it accept any host as its hub. Do not set it where people browse.

In the environment of Firefox:
{environment}
In about:config, or in user.js in the profile:
{prefs}
Features that name their hub themselves (link preview, embeddings) do not read this preference; --mode proxy reaches
them.
"
    );
    Guide { text, files: vec![("user.js", prefs), ("environment", environment)], needs_certificate: false }
}

fn prefs(url: &str) -> String {
    format!(
        "user_pref(\"browser.ml.enable\", true);\nuser_pref(\"browser.ml.modelHubRootUrl\", \"{url}\");\n"
    )
}
