//! The table of all settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::layers::Values;
use super::setting::{
    Bypass, Count, CredentialField, MaxSize, ProxyAddress, Raw, Refusal, Setting, SettingsServer, Size,
};
use crate::admin::HostName;
use crate::model::{Collection, HubRoot, OnAnnounce, Sha256};
use crate::policy::egress::{Mode, Pattern};
use crate::policy::rate::Slot;
use crate::policy::{Access, Delivery, DenyFor, FileFormat, ModelPattern, PathPattern, Unasked, Uploads};
use crate::telemetry::log::{Format, Level};

/// The smallest and the largest value of a setting, written like values.
pub type Bounds = (&'static str, &'static str);

/// One setting: a key of a file, an environment variable and a flag.
#[derive(Debug)]
pub struct Key {
    /// Section and name, joined with a dot.
    pub id: &'static str,
    /// The table of a file in which it stands.
    pub section: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// Its value where no layer gives one, of a list with commas; empty for what is found out at the start.
    pub default: &'static str,
    /// What it does, for people.
    pub help: &'static str,
    /// The smallest and the largest value.
    pub bounds: Option<Bounds>,
    /// A flag beside the one that every key has.
    pub alias: Option<&'static str>,
    /// What stands for a value in help texts.
    pub placeholder: &'static str,
    /// Whether it has several values.
    pub is_list: bool,
    /// Whether its flag needs no value.
    pub is_switch: bool,
    expects: fn() -> String,
    check: fn(&Raw, Option<Bounds>) -> Result<(), Refusal>,
}

impl Key {
    /// The key of that id.
    pub fn find(id: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.id == id)
    }

    /// The environment variable: `HUBCACHE_CACHE__REF_TTL`.
    pub fn variable(&self) -> String {
        format!("HUBCACHE_{}", self.id.replace('.', "__").to_ascii_uppercase())
    }

    /// The shorter variable of a setting that has a shorter flag: `HUBCACHE_OFFLINE`.
    pub fn short_variable(&self) -> Option<String> {
        self.alias.map(|alias| format!("HUBCACHE_{}", alias.replace('-', "_").to_ascii_uppercase()))
    }

    /// The flag without its dashes: `cache-ref-ttl`.
    pub fn flag(&self) -> String {
        self.id.replace(['.', '_'], "-")
    }

    /// What a value must be, to be read after the word "expected".
    pub fn expects(&self) -> String {
        let expects = (self.expects)();
        match self.bounds {
            Some((low, high)) => format!("{expects}, from {low} to {high}"),
            None => expects,
        }
    }

    /// Whether `raw` is a value of this key.
    ///
    /// # Errors
    /// A [`Refusal`] when it is none.
    pub(super) fn check(&self, raw: &Raw) -> Result<(), Refusal> {
        (self.check)(raw, self.bounds)
    }
}

fn check<T: Setting>(raw: &Raw, bounds: Option<Bounds>) -> Result<(), Refusal> {
    let value = T::read(raw)?;
    match bounds {
        Some((low, high)) if !value.is_within(low, high) => Err(Refusal::default()),
        _ => Ok(()),
    }
}

/// Declares sections and makes of each a struct of typed values, and of all of them [`KEYS`].
macro_rules! settings {
    (@bounds $low:literal $high:literal) => { Some(($low, $high)) };
    (@bounds) => { None };
    (@alias $alias:literal) => { Some($alias) };
    (@alias) => { None };
    ($(
        $(#[doc = $about:literal])+
        [$section:literal] $struct:ident {$(
            $(#[doc = $help:literal])+
            $name:ident: $type:ty = $default:literal $(in $low:literal..=$high:literal)? $(as $alias:literal)?;
        )*}
    )*) => {
        $(
            $(#[doc = $about])+
            #[derive(Debug)]
            pub struct $struct { $( $(#[doc = $help])+ pub $name: $type, )* }

            impl $struct {
                /// The values of the section that won.
                pub fn from(values: &Values) -> Self {
                    Self { $( $name: values.get(concat!($section, ".", stringify!($name))), )* }
                }
            }
        )*

        /// All settings, section by section.
        pub static KEYS: &[Key] = &[$($(
            Key {
                id: concat!($section, ".", stringify!($name)),
                section: $section,
                name: stringify!($name),
                default: $default,
                help: concat!($($help, "\n"),+),
                bounds: settings!(@bounds $($low $high)?),
                alias: settings!(@alias $($alias)?),
                placeholder: <$type as Setting>::PLACEHOLDER,
                is_list: <$type as Setting>::IS_LIST,
                is_switch: <$type as Setting>::IS_SWITCH,
                expects: <$type as Setting>::expects,
                check: check::<$type>,
            },
        )*)*];
    };
}

settings! {
    /// The listener that clients talk to.
    ["listen"] Listen {
        /// Where clients connect. Port 0 lets the system choose one; the line that `serve` prints tells which.
        address: SocketAddr = "127.0.0.1:8470" as "listen";
        /// Who may use this server: local is this machine; anonymous is whoever reaches a port, without being asked who
        /// that is; token is who has a token of `hubcache token`, a client certificate, or an address for which there is a
        /// rule; mtls is who has a client certificate. Other addresses than loopback cannot be listened on with local.
        access: Access = "local" as "access";
        /// Where clients connect that speak TLS to this server itself, by its own name or by that of a hub which their
        /// DNS leads here.
        tls_address: Option<SocketAddr> = "none" as "listen-tls";
        /// A file with the PEM certificate for tls_address, and behind it those that lead to a root.
        tls_cert: Option<PathBuf> = "none" as "cert";
        /// A file with the PEM key for it, which only its owner may be able to read.
        tls_key: Option<PathBuf> = "none" as "key";
        /// A file of PEM certificates of the authorities that vouch for clients of tls_address. With token a client may have
        /// a certificate, with mtls it must; its groups are the organizational units in it, or else the organizations.
        client_ca: Option<PathBuf> = "none" as "client-ca";
        /// How long a client may take to send the head of a request.
        header_timeout: Duration = "10s" in "100ms"..="1h";
        /// How long a connection is kept open between two requests, and how long a request's body may pause.
        idle_timeout: Duration = "120s" in "100ms"..="1d";
        /// A client that takes no byte of what is ready for it for so long is cut.
        write_timeout: Duration = "300s" in "100ms"..="1d";
        /// Connections at a time; further ones wait until one ends.
        max_connections: Count = "16384" in "1"..="1000000";
        /// Connections at a time from one address, or one IPv6 network of 64 bits; further ones are closed.
        max_connections_per_client: Count = "1024" in "1"..="1000000";
        /// How long responses may go on after SIGTERM before they are cut.
        drain: Duration = "30s" in "0s"..="1h";
    }

    /// Tokens and rules, where listen.access is token or mtls.
    ["access"] Tokens {
        /// The file of tokens and rules: who may read, preload and admin, of which models. It is read again when it changes.
        tokens: Option<PathBuf> = "none" as "tokens";
        /// The header field in which clients show a token that name this server itself and not as their proxy:
        /// Authorization, or one that begins with X-. With Authorization no client has credentials of a hub.
        header: CredentialField = "X-Hubcache-Token";
    }

    /// Which models and files are given to nobody, whoever asks, and not fetched.
    ["models"] Models {
        /// If it is not empty, only these: patterns such as acme/*, huggingface:acme/tiny or datasets/acme/*.
        allow: Vec<ModelPattern> = "";
        /// None of these, in the same form; it wins over allow.
        deny: Vec<ModelPattern> = "";
        /// No file whose path in its repository fits one of these; * stands for slashes too.
        deny_paths: Vec<PathPattern> = "";
        /// No file of these formats, which can run code where they are loaded: pickle (.pkl .pickle .pt .pth .pth.tar .bin
        /// .ckpt .joblib .dill), numpy (.npy .npz), keras-h5 (.h5 .hdf5), keras (.keras), tensorflow (.pb), python
        /// (.py .pyc). PyTorch's weights are .bin, and so are some files that run nothing.
        deny_formats: Vec<FileFormat> = "";
    }

    /// The audit log.
    ["audit"] Audit {
        /// A file to which a line of JSON is added for what was served, refused, filled, evicted and changed. SIGUSR1 has it
        /// opened again, for whatever rotates it.
        file: Option<PathBuf> = "none" as "audit";
    }

    /// Tunnels (CONNECT) to the hosts of hubs.
    ["intercept"] Intercept {
        /// Requests in tunnels to hubs are answered from the cache, for clients that trust the certificate authority
        /// of this server; without it they are relayed unseen.
        enabled: bool = "false" as "intercept";
        /// A file with the PEM certificate of another authority that is to issue the certificates, and behind it those
        /// that lead to a root. Without it: that of `hubcache ca`.
        ca_cert: Option<PathBuf> = "none";
        /// A file with the PEM key of that authority, which only its owner may be able to read.
        ca_key: Option<PathBuf> = "none";
    }
    /// Where connections may go.
    ["egress"] Egress {
        /// What clients may name: with closed the hosts of hubs and of Remote Settings, and what is listed; with open
        /// every host. What names stand for is checked all the same.
        mode: Mode = "closed";
        /// What is allowed beside that: NAME, *.NAME, an address or a network, each with :PORT, :* or without, which
        /// means 80 and 443. Addresses that are not public are connected to only if they are listed as such.
        allow: Vec<Pattern> = "";
    }
    /// The operators' door: /healthz, /readyz and /metrics.
    ["admin"] Admin {
        /// Where the operators' door listens. Port 0 lets the system choose one.
        address: SocketAddr = "127.0.0.1:8471" as "admin";
        /// Names beside localhost and loopback addresses that the door answers to in `Host`.
        /// Needed when a collector of metrics reaches it by another name or address.
        hosts: Vec<HostName> = "";
    }

    /// The data directory.
    ["store"] Store {
        /// The data directory; it has one owner process.
        /// Where it is not given: $STATE_DIRECTORY, else $XDG_STATE_HOME/hubcache, else ~/.local/state/hubcache.
        dir: PathBuf = "" as "data";
        /// What all files of the data directory may take on disk; at that files go which were used least. auto: 80 % of
        /// what is free when the directory is made.
        max_size: MaxSize = "auto" in "32MiB"..="1000TiB" as "max-size";
        /// How many bytes a second are copied out of volumes of which much is not needed, to give their space back.
        rewrite_rate: Size = "32MiB" in "64KiB"..="1TiB";
        /// The largest size of one volume file of the data directory; with an eighth of max_size it takes nothing more
        /// either.
        volume_max: Size = "64GiB" in "256MiB"..="16TiB";
        /// Memory for pages of the database, over all volumes.
        cache: Size = "64MiB" in "8MiB"..="1TiB";
        /// Memory for small files that are asked for often.
        small_cache: Size = "64MiB" in "0B"..="1TiB";
        /// How long an unfinished download is kept for another attempt.
        partial_expiry: Duration = "7d" in "1m"..="3650d";
        /// Free space on the disk below which nothing more is stored.
        min_free: Size = "64MiB" in "0B"..="1000TiB";
    }

    /// The hub of Firefox's models.
    ["hub.mozilla"] HubMozilla {
        /// Where the hub is. What was fetched elsewhere is not served as this hub's.
        url: HubRoot = "https://model-hub.mozilla.org";
        /// Further URLs of the same hub: what was fetched from them is served as this one's.
        equivalent: Vec<HubRoot> = "";
        /// URLs that are asked in this order while the hub is down, and count as equivalent. They are sent no credentials.
        mirrors: Vec<HubRoot> = "";
        /// What is done with models of this hub when Remote Settings announces another revision: prefetch fetches the same
        /// files of it, then marks the old one superseded; evict also drops that after settings.grace; mark fetches
        /// nothing; ignore does nothing.
        on_announce: OnAnnounce = "prefetch";
    }

    /// The hub of Hugging Face.
    ["hub.huggingface"] HubHuggingFace {
        /// Where the hub is. What was fetched elsewhere is not served as this hub's.
        url: HubRoot = "https://huggingface.co";
        /// Further URLs of the same hub: what was fetched from them is served as this one's.
        equivalent: Vec<HubRoot> = "";
        /// URLs that are asked in this order while the hub is down, and count as equivalent. They are sent no credentials.
        mirrors: Vec<HubRoot> = "";
        /// What is done with models of this hub when Remote Settings announces another revision: prefetch fetches the same
        /// files of it, then marks the old one superseded; evict also drops that after settings.grace; mark fetches
        /// nothing; ignore does nothing.
        on_announce: OnAnnounce = "prefetch";
        /// A file with a token of this hub, in one line. What entitlement.share names is fetched with it, and nothing else.
        token_file: Option<PathBuf> = "none";
    }

    /// Who may read files of Hugging Face that not everybody may read at the hub. They are kept once for all whom the hub
    /// grants them, and given to nobody else.
    ["entitlement"] EntitlementSettings {
        /// For how long a caller's credentials that the hub has accepted for a file are taken to be good for it. Access
        /// that is withdrawn at the hub ends here after it.
        remembered: Duration = "60s" in "0s"..="1h";
        /// How long a caller with credentials waits for the hub's word; clients give up after 10 s.
        wait: Duration = "8s" in "100ms"..="10m";
        /// After how long a file that everybody may read is asked for without credentials again, in the background, when
        /// it is in use.
        recheck: Duration = "1h" in "0s"..="3650d";
        /// What callers with credentials are given while the hub cannot be asked, or there is none: deny gives them
        /// nothing, last-known what the hub last granted them.
        offline: Unasked = "deny";
        /// How old such a grant may be.
        last_known_for: Duration = "7d" in "1s"..="3650d";
        /// Models that everybody may read who may use this cache, whoever may at the hub: patterns such as acme/*.
        /// With hub.huggingface.token_file they are also fetched for everybody.
        share: Vec<ModelPattern> = "";
    }

    /// Remote Settings of Firefox: which revisions of models its features use, and what it needs beside them.
    ["settings"] Settings {
        /// The server, with the version of its interface; off: nothing is watched, and nothing mirrored.
        server: SettingsServer = "https://firefox.settings.services.mozilla.com/v1" as "settings";
        /// The SHA-256 of a root under which collections are signed. It takes the place of Mozilla's; there can be several.
        root: Vec<Sha256> = "c8a80e9afaef4e219b6fb5d7a71d0f101223bac5001ac28f9b0d43dc59a106db";
        /// How often the server is asked what has changed.
        interval: Duration = "5m" in "100ms"..="7d";
        /// The collections that are watched: bucket/name, or a name of the bucket main.
        collections: Vec<Collection> =
            "ml-inference-options,ml-onnx-runtime,ml-model-allow-deny-list,ml-inference-words-block-list";
        /// How long a superseded revision is kept that is to be dropped; older Firefoxes still ask for it.
        grace: Duration = "7d" in "0s"..="3650d";
        /// The first pause before the files of an announced revision are asked for again that were not there yet; each
        /// further one is twice as long, up to an hour.
        retry: Duration = "60s" in "10ms"..="1h";
        /// To whose requests the deny list applies: firefox is the Mozilla hub for all, and any hub for Firefox; all is
        /// every request.
        deny_for: DenyFor = "firefox";
        /// Files that are attached to records of watched collections are fetched before anybody asks for them.
        attachments: bool = "true";
    }

    /// How hubs are asked.
    ["upstream"] Upstream {
        /// No hub is ever asked: what is held is served, and what is not is refused with the command that would bring it.
        offline: bool = "false" as "offline";
        /// Only what a lock file pins is served, each file after it was read and hashed, and no hub is ever asked.
        frozen: bool = "false" as "frozen";
        /// The lock file that a frozen server serves.
        lock: Option<PathBuf> = "none" as "lock";
        /// A bundle that is served as it is, with no import: what it holds and nothing else, as a frozen server does.
        bundle: Option<PathBuf> = "none" as "bundle";
        /// A file to which a frozen server writes at its end what was asked for and not served: what, how often, why, and
        /// what would help, with tabs between.
        missing_report: Option<PathBuf> = "none" as "missing-report";
        /// A file of rules by which a frozen server makes answers go wrong on purpose, for tests of clients. Such a server
        /// opens no store itself, speaks plain HTTP only, and has no operators' door.
        faults: Option<PathBuf> = "none" as "faults";
        /// A parent proxy through which hubs are reached. Without it HTTPS_PROXY is read, for hubs over TLS.
        proxy: Option<ProxyAddress> = "none";
        /// Hosts that are reached past the parent proxy: names, which stand for all below them too, addresses, networks.
        /// Without it NO_PROXY is read.
        no_proxy: Vec<Bypass> = "";
        /// A file with the user name and the password for the parent proxy, with a colon between.
        proxy_credentials: Option<PathBuf> = "none";
        /// A file of PEM certificates that are trusted beside those of the system.
        ca_bundle: Option<PathBuf> = "none" as "ca-bundle";
        /// How long connecting to a hub may take, TLS included.
        connect_timeout: Duration = "10s" in "10ms"..="10m";
        /// How long a hub may take to send the head of its response.
        head_timeout: Duration = "30s" in "10ms"..="10m";
        /// How long a download may pause before it is taken up again over another connection.
        stall_timeout: Duration = "15s" in "10ms"..="10m";
        /// How often a download that makes no progress is tried.
        attempts: Count = "6" in "1"..="1000";
        /// The first pause between two attempts; each further one is twice as long.
        backoff: Duration = "250ms" in "1ms"..="10m";
        /// The longest pause between two attempts.
        backoff_max: Duration = "10s" in "1ms"..="1h";
        /// How many redirects are followed for one file.
        max_redirects: Count = "8" in "0"..="100";
        /// The largest file that is fetched.
        max_file: Size = "1TiB" in "1B"..="1000TiB";
        /// Connections to one host at a time.
        max_connections_per_host: Count = "32" in "1"..="10000";
        /// After how many failures in a row a hub counts as down and is only probed; a time-out does it at once.
        circuit_failures: Count = "5" in "1"..="1000";
        /// How long after that the first probe is sent; the pauses between further ones grow up to 30 s.
        probe_interval: Duration = "2s" in "10ms"..="10m";
    }

    /// What is served from memory and disk, and for how long.
    ["cache"] Cache {
        /// How long a branch or tag is taken to point where it pointed.
        ref_ttl: Duration = "60s" in "0s"..="3650d";
        /// How long a GET waits for the hub to confirm what is held before it is answered from that.
        revalidate_budget: Duration = "2s" in "0s"..="10m";
        /// The same for HEAD; Firefox gives up after one second.
        head_budget: Duration = "800ms" in "0s"..="10m";
        /// How old an unconfirmed answer may be while the hub is down; none: any age.
        stale_max: Option<Duration> = "none" in "0s"..="3650d";
        /// How long it is remembered that a hub does not have a file, where that may change.
        negative_ttl: Duration = "10s" in "0s"..="1d";
        /// After wrong bytes were sent: how long requests that would continue them get the whole file instead.
        mark_for: Duration = "10m" in "1s"..="30d";
        /// With verified delivery: after how long it streams all the same; Firefox gives up after 300 seconds.
        hold: Duration = "240s" in "0s"..="1d";
        /// How often a response that has nothing to send sends a byte it held back; clients give up after 10 s.
        drip: Duration = "3s" in "100ms"..="1h";
        /// Memory for the bytes of unfinished files, over all downloads.
        window: Size = "64MiB" in "4MiB"..="1TiB";
        /// Downloads at a time.
        max_fills: Count = "64" in "1"..="10000";
        /// How many more bytes a download may fetch that nobody waits for; none: all.
        orphan_max: Option<Size> = "none" in "0B"..="1000TiB";
        /// A range that begins so far ahead of a running download is fetched first.
        far_ahead: Size = "8MiB" in "64KiB"..="1TiB";
        /// Stretches of one file that are fetched at the same time, where ranges are asked for.
        lanes: Count = "8" in "1"..="64";
        /// Connections over which one file is fetched from a hub that gives each of them little; 1: one only.
        lanes_far: Count = "16" in "1"..="64";
        /// How files of the Mozilla layout are sent while they arrive: stream sends bytes as they come, verified
        /// sends none before all were checked.
        delivery_mozilla: Delivery = "verified";
        /// The same for files of Hugging Face.
        delivery_huggingface: Delivery = "stream";
        /// How many files that are not held are remembered with what the hub said of them.
        known_entries: Count = "10000" in "1"..="100000000";
        /// Requests that may wait for one download.
        max_followers: Count = "4096" in "1"..="1000000";
        /// The size of files above which clients are told where these are in the Xet store of Hugging Face, from where
        /// they come past this cache; huggingface_hub takes nothing larger over HTTP. none: no file.
        xet_above: Option<Size> = "50GB" in "0B"..="1000TiB";
        /// What becomes of requests that could change something at a hub: pass hands them on, refuse answers 403.
        uploads: Uploads = "pass";
    }

    /// What bounds requests, bandwidth, and downloads that nobody waits for.
    ["limits"] Limits {
        /// Requests that are being answered at a time, each until the end of its body; further ones are answered 503.
        max_requests: Count = "16384" in "1"..="1000000";
        /// The same of one address, or one IPv6 network of 64 bits; further ones are answered 429.
        max_requests_per_client: Count = "1024" in "1"..="1000000";
        /// Questions to hubs that are open at a time; beyond it, what is held is served as if the hub were late.
        max_questions: Count = "4096" in "1"..="1000000";
        /// Answers of a hub's API that are read at a time, each into memory; further ones wait.
        max_answers: Count = "8" in "1"..="1000";
        /// Bytes a second to all clients together: a size, or one for some hours of the day in local time
        /// (50MiB@08:00-18:00), or none; of several the first that holds. Clients take turns.
        download_rate: Vec<Slot> = "";
        /// The same for each client.
        download_rate_per_client: Vec<Slot> = "";
        /// Bytes a second from all hubs together.
        upstream_rate: Vec<Slot> = "";
        /// Bytes a second of requests that are handed on to hubs, such as uploads.
        upload_rate: Vec<Slot> = "";
        /// How many percent of cache.max_fills and of upstream.max_connections_per_host downloads may have that nobody
        /// waits for: preloaded, announced, or left over from an earlier run.
        background_share: Count = "50" in "1"..="100";
        /// Such downloads pause while a hub says that fewer percent are left of how often it may be asked.
        quota_reserve: Count = "25" in "0"..="100";
    }

    /// Reading what is held again, against disks that lose bits.
    ["scrub"] Scrub {
        /// How often all that is held is read again and hashed in the background, the longest unread first; none: never.
        every: Option<Duration> = "30d" in "100ms"..="3650d";
        /// How many bytes a second are read for that.
        rate: Size = "32MiB" in "1KiB"..="1TiB";
    }

    /// The log on stderr.
    ["log"] Log {
        /// How a line is written: text for people, json for machines.
        format: Format = "text";
        /// What is logged: off, error, warn, info, debug or trace, also for one module: info,hubcache::upstream=debug.
        level: Level = "info";
    }
}
