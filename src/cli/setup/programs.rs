//! What other programs have to be told; the texts for shells can be evaluated as they are.

use super::{Guide, Server};

const MAKE_BUNDLE: &str = "\
# These variables replace what a program trusts. A file with the system's certificates as well is made by --write, or by
#   cat /etc/ssl/certs/ca-certificates.crt \"$(hubcache ca path)\" > ca-bundle.pem
";

pub(super) fn hf(mode: &str, server: &Server) -> Guide {
    let url = server.url();
    if mode == "endpoint" {
        let text = format!(
            "\
# huggingface_hub, transformers, datasets, hf, and hf-hub (Rust) ask this server in place of huggingface.co.
export HF_ENDPOINT={url}
"
        );
        return Guide { text, files: vec![], needs_certificate: false };
    }
    let trusted = server.trusted.display();
    let text = format!(
        "\
# huggingface_hub, transformers, datasets and hf go on naming huggingface.co, and reach it through this server, which
# must run with --intercept. The 0.x line reads REQUESTS_CA_BUNDLE; 1.x, 2.x and hf_xet read SSL_CERT_FILE.
export HTTPS_PROXY={url}
export REQUESTS_CA_BUNDLE={trusted}
export SSL_CERT_FILE={trusted}
{MAKE_BUNDLE}"
    );
    Guide { text, files: vec![], needs_certificate: true }
}

pub(super) fn transformersjs(_: &str, server: &Server) -> Guide {
    let url = server.url();
    let text = format!(
        "\
// transformers.js asks this server in place of huggingface.co; put this before the first pipeline.
import {{ env }} from \"@huggingface/transformers\";
env.remoteHost = \"{url}/\";

// For models of the Mozilla hub also:
// env.remotePathTemplate = \"{{model}}/{{revision}}/\";
"
    );
    Guide { text, files: vec![], needs_certificate: false }
}

pub(super) fn shell(_: &str, server: &Server) -> Guide {
    let (url, trusted, certificate) = (server.url(), server.trusted.display(), server.certificate.display());
    let text = format!(
        "\
# Programs that are started from this shell use this server as their proxy, which must run with --intercept. It allows
# the hosts of the hubs and of Remote Settings, and what egress.allow lists.
export HTTPS_PROXY={url} https_proxy={url}
export NO_PROXY=localhost,127.0.0.1,::1 no_proxy=localhost,127.0.0.1,::1
export REQUESTS_CA_BUNDLE={trusted}
export SSL_CERT_FILE={trusted}
export CURL_CA_BUNDLE={trusted}
export NODE_EXTRA_CA_CERTS={certificate}
{MAKE_BUNDLE}"
    );
    Guide { text, files: vec![], needs_certificate: true }
}

pub(super) fn nodejs(_: &str, server: &Server) -> Guide {
    let (url, certificate) = (server.url(), server.certificate.display());
    let text = format!(
        "\
# From version 24 on the fetch of Node.js uses a proxy when it is told to. Older ones ignore HTTPS_PROXY: with those set
# the remote host instead (hubcache setup transformersjs). This server must run with --intercept.
export NODE_USE_ENV_PROXY=1
export HTTPS_PROXY={url}
export NODE_EXTRA_CA_CERTS={certificate}
"
    );
    Guide { text, files: vec![], needs_certificate: true }
}

pub(super) fn curl(mode: &str, server: &Server) -> Guide {
    let url = server.url();
    if mode == "endpoint" {
        let text = format!("curl -O {url}/openai-community/gpt2/resolve/main/config.json\n");
        return Guide { text, files: vec![], needs_certificate: false };
    }
    let certificate = server.certificate.display();
    let text = format!(
        "\
# This server must run with --intercept.
curl --proxy {url} --cacert {certificate} \\
  -O https://huggingface.co/openai-community/gpt2/resolve/main/config.json
"
    );
    Guide { text, files: vec![], needs_certificate: true }
}
