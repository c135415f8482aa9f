//! What the server is asked, and what is read of its answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use url::Url;

use super::held::{BUNDLE, CHAINS, CHANGES, ROOT, SERVER};
use super::snapshot::{Base, judge, merged};
use super::trouble::Trouble;
use super::wire::{self, ChangeList, Changeset, Unreadable};
use super::{Held, Watcher, startup, text_of};
use crate::model::{Collection, Records, Timestamp};
use crate::store::{Decision, StoreError};
use crate::upstream::{Collected, Failure};
use crate::verify::signature::{self, BadSignature, Chain, Validity};

impl Watcher {
    /// What the server is, and where its attachments are.
    pub(super) async fn learn_server(&self) -> Result<(), Trouble> {
        let got = self.get(&self.url("/")?, wire::MAX_CHAIN).await?;
        let said = wire::json(&got.body)?;
        let base = base_of(&said).ok_or(Unreadable::Lacks("base of attachments"))?;
        self.fetcher.upstream().set_attachments(base);
        let _commit = self.remote.commit.lock().await;
        let mut held = Held::clone(&self.remote.held());
        (held.server, held.server_at) = (Some(Arc::new(said)), Timestamp::now());
        self.remote.decide(vec![self.document(SERVER, ROOT, got.body)]).await?;
        self.remote.publish(held);
        Ok(())
    }

    pub(super) async fn change_list(&self, expected: u64) -> Result<Arc<ChangeList>, Trouble> {
        let path = format!("/buckets/monitor/collections/changes/changeset?_expected={expected}");
        let got = self.get(&self.url(&path)?, wire::MAX_ANSWER).await?;
        let list = Arc::new(wire::change_list(&got.body)?);
        if self.remote.held().changes.as_ref() != Some(&list) {
            let _commit = self.remote.commit.lock().await;
            let mut held = Held::clone(&self.remote.held());
            held.changes = Some(Arc::clone(&list));
            self.remote.decide(vec![self.document(SERVER, CHANGES, got.body)]).await?;
            self.remote.publish(held);
        }
        Ok(list)
    }

    /// What has changed in a collection since a moment, and whether that is all that the answer says.
    pub(super) async fn changeset(
        &self,
        collection: &Collection,
        at: u64,
        since: Option<u64>,
    ) -> Result<(Changeset, bool), Trouble> {
        let Collection { bucket, name } = collection;
        let mut path = format!("/buckets/{bucket}/collections/{name}/changeset?_expected={at}");
        if let Some(since) = since {
            path = format!("{path}&_since={since}");
        }
        let got = self.get(&self.url(&path)?, wire::MAX_ANSWER).await?;
        // A moment that is too long ago is answered by a redirect to all of the collection.
        let is_delta = since.is_some() && got.url.query_pairs().any(|(name, _)| name == "_since");
        Ok((wire::changeset(&got.body)?, is_delta))
    }

    /// The chains of all signatures of a changeset, and why one of them is missing.
    async fn chains(
        &self,
        set: &Changeset,
        fresh: bool,
    ) -> (BTreeMap<String, (Chain, Bytes)>, Option<Failure>) {
        let (mut chains, mut unreachable) = (BTreeMap::new(), None);
        for signature in signature::signatures(&set.metadata) {
            let url = signature.x5u;
            let held = self.remote.held().chains.get(&url).cloned().filter(|_| !fresh);
            let text = match held {
                Some(text) => text,
                None => match self.fetch_chain(&url).await {
                    Ok(text) => text,
                    Err(Trouble::Failure(failure)) => {
                        unreachable = Some(failure);
                        continue;
                    }
                    Err(trouble) => {
                        tracing::debug!(url, %trouble, "a chain of certificates cannot be had");
                        continue;
                    }
                },
            };
            if let Ok(chain) = Chain::parse(&text) {
                chains.insert(url, (chain, text));
            }
        }
        (chains, unreachable)
    }

    async fn fetch_chain(&self, url: &str) -> Result<Bytes, Trouble> {
        let url = Url::parse(url).map_err(|_| Unreadable::Lacks("URL of a chain"))?;
        Ok(self.get(&url, wire::MAX_CHAIN).await?.body)
    }

    /// The bundle that a new Firefox begins with; only what is signed in it is kept.
    pub(super) async fn fetch_bundle(&self) -> Result<(), Trouble> {
        let held = self.remote.held();
        let base =
            held.server.as_deref().and_then(base_of).ok_or(Unreadable::Lacks("base of attachments"))?;
        let url =
            base.join("bundles/startup.json.mozlz4").map_err(|_| Unreadable::Lacks("URL of the bundle"))?;
        let got = self.get(&url, wire::MAX_BUNDLE).await?;
        let sets = tokio::task::spawn_blocking(move || startup::unpack(&got.body));
        let sets = sets.await.map_err(|_| StoreError::Closed)??;
        let (mut good, mut used) = (Vec::new(), BTreeMap::new());
        for value in sets {
            match self.of_bundle(&value).await {
                Ok(chains) => {
                    used.extend(chains);
                    good.push(value);
                }
                Err(trouble) => {
                    let name = text_of(&value, &["metadata", "id"]).unwrap_or_default();
                    tracing::warn!(collection = name, %trouble, "the startup bundle is kept without a collection");
                }
            }
        }
        let body = serde_json::to_vec(&good).expect("values of JSON are JSON");
        let _commit = self.remote.commit.lock().await;
        let mut held = Held::clone(&self.remote.held());
        let mut decisions = vec![self.document(SERVER, BUNDLE, body.into())];
        decisions.extend(self.keep_chains(&mut held, used));
        (held.bundle, held.bundle_at) = (Some(Arc::new(good)), Timestamp::now());
        self.remote.decide(decisions).await?;
        self.remote.publish(held);
        Ok(())
    }

    /// Whether a collection of the bundle is signed, and with which chains.
    async fn of_bundle(&self, value: &Value) -> Result<BTreeMap<String, Bytes>, Trouble> {
        let set = wire::changeset_of(value.clone())?;
        let name = |field: &str| text_of(value, &["metadata", field]).unwrap_or_default();
        let collection = Collection::new(name("bucket"), name("id")).ok_or(Unreadable::Lacks("name"))?;
        let records = merged(Base::Whole(None), &set);
        Ok(self.verified(&collection, &records, &set, false).await?.1)
    }

    /// Until when a state is signed, and by which chain. The other chains are no more than what somebody sent.
    pub(super) async fn verified(
        &self,
        collection: &Collection,
        records: &Records,
        set: &Changeset,
        fresh: bool,
    ) -> Result<(Validity, BTreeMap<String, Bytes>), Trouble> {
        let (chains, unreachable) = self.chains(set, fresh).await;
        let chain = |url: &str| chains.get(url).map(|(chain, _)| chain.clone()).ok_or(BadSignature::NoChain);
        match judge(collection, records, set, chain, &self.settings().roots, Timestamp::now()) {
            Ok((validity, used)) => {
                let good = chains.into_iter().filter(|(url, _)| *url == used);
                Ok((validity, good.map(|(url, (_, text))| (url, text)).collect()))
            }
            Err(why) => Err(unreachable.map_or(Trouble::Unsigned(why), Trouble::Failure)),
        }
    }

    /// Holds these chains too, and has those written down that are new.
    pub(super) fn keep_chains(&self, held: &mut Held, chains: BTreeMap<String, Bytes>) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for (url, chain) in chains {
            if held.chains.get(&url) != Some(&chain) {
                decisions.push(self.document(CHAINS, &url, chain.clone()));
                held.chains.insert(url, chain);
            }
        }
        decisions
    }

    /// Asks for `url`, which is the server's or leads there, on behalf of a client.
    ///
    /// # Errors
    /// See [`Failure`]. Any status is an answer.
    pub async fn collect(&self, url: &str, limit: usize) -> Result<Collected, Failure> {
        let url = Url::parse(url).map_err(|e| Failure::Unreachable(e.into()))?;
        let got = self.fetcher.upstream().collect(&url, limit).await?;
        self.note_wish(&got);
        Ok(got)
    }

    /// Asks the server. That it asks to be left alone with this answer holds from the next poll on.
    async fn get(&self, url: &Url, limit: usize) -> Result<Collected, Trouble> {
        let got = self.fetcher.upstream().collect(url, limit).await?;
        self.note_wish(&got);
        match got.status {
            StatusCode::OK => Ok(got),
            status => Err(Trouble::Status(status)),
        }
    }

    /// Notes that the server asked to be left alone.
    fn note_wish(&self, got: &Collected) {
        if let Some(wait) = got.left_alone {
            let mut watching = self.remote.watching();
            // One wish does not shorten another.
            watching.left_alone_until = watching.left_alone_until.max(Some(Timestamp::now().plus(wait)));
            drop(watching);
            tracing::warn!(seconds = wait.as_secs(), "remote settings asks to be left alone");
        }
    }

    fn url(&self, path_and_query: &str) -> Result<Url, Trouble> {
        let text = format!("{}{path_and_query}", self.settings().server);
        Url::parse(&text).map_err(|e| Trouble::Failure(Failure::Unreachable(e.into())))
    }

    pub(super) fn document(&self, of: &str, path: &str, body: Bytes) -> Decision {
        self.settings().document(of, path, body)
    }
}

/// Where a server says that its attachments are.
pub(super) fn base_of(said: &Value) -> Option<Url> {
    let text = text_of(said, &["capabilities", "attachments", "base_url"])?;
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_base_of_attachments_is_a_url() {
        let said = |base: &str| json!({"capabilities": {"attachments": {"base_url": base}}});
        assert_eq!(base_of(&said("https://cdn/x")).unwrap().as_str(), "https://cdn/x/");
        for bad in ["", "cdn", "file:///etc/", "javascript:1"] {
            assert_eq!(base_of(&said(bad)), None, "{bad}");
        }
        assert_eq!(base_of(&json!({})), None);
    }
}
