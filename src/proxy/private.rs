//! Files that only the caller's own credentials open: the hub is asked whether it gives them to this caller, before
//! anything of them is told. See [`crate::policy::Entitlement`].

use std::sync::Arc;
use std::time::Duration;

use http::header;
use tokio::time::Instant;

use super::file::closed_range;
use super::{Asked, Proxy, Reply, status};
use crate::cache::{Entitled, Fetcher, FillError};
use crate::model::{Expectation, Hub, Outcome, Resource, Secret, Timestamp};
use crate::request::forces_revalidation;
use crate::upstream::Failure;

/// Least time that a caller's question gets, however long everybody's took.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// That a caller may read a file.
struct Grant {
    /// The file, its branch resolved to a commit.
    subject: Resource,
    /// What the hub said of it, if that is remembered.
    said: Option<Arc<Expectation>>,
    credential: Secret,
}

impl Proxy {
    /// The caller's credentials for the hub, where there is anything that they could open.
    pub(super) fn credential(asked: &Asked<'_>, hub: Hub) -> Option<Secret> {
        let credential = asked.parts.headers.get(header::AUTHORIZATION)?;
        (hub == Hub::HuggingFace).then(|| Secret::new(credential.clone()))
    }

    /// How long a caller waits for the hub who has credentials, in all.
    pub(super) fn patience(&self) -> Duration {
        self.cache.entitlement().wait
    }

    /// The hub gives nothing to a request without credentials; a caller who has some is asked for in person, within
    /// what is left of the time until `deadline`.
    pub(super) async fn denied(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        failure: &Failure,
        deadline: Instant,
    ) -> Reply {
        match Self::credential(asked, resource.hub) {
            Some(credential) if failure.depends_on_caller() => {
                self.private(fetcher, resource, asked, credential, deadline).await
            }
            Some(_) if failure.is_down() => self.last_granted(resource, asked, failure).await,
            _ => status::of_failure(failure),
        }
    }

    async fn private(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        credential: Secret,
        deadline: Instant,
    ) -> Reply {
        let within = deadline.saturating_duration_since(Instant::now()).max(LEAST_WAIT);
        let insists = forces_revalidation(&asked.parts.headers);
        let (subject, said) = match fetcher.entitle(resource, &credential, insists, within).await {
            Entitled::Granted { subject, said } => (subject, said),
            Entitled::Refused(failure) => return status::of_failure(&failure),
            Entitled::Unanswered(Some(failure)) => {
                return self.last_granted(resource, asked, &failure).await;
            }
            Entitled::Unanswered(None) => {
                return self.last_granted(resource, asked, &Failure::TimedOut).await;
            }
        };
        match self.cache.entry_for_granted(&subject) {
            Ok(Some(entry)) => return self.serve(resource, asked, &entry, Outcome::Entitled).await,
            Ok(None) => {}
            Err(error) => return status::of_store(&error),
        }
        if asked.head_only {
            let said = match said {
                Some(said) => Ok(said),
                None => fetcher.tell_granted(&subject, &credential).await,
            };
            return match said {
                Ok(said) => self.tell(resource, asked, &said, Outcome::Granted),
                Err(failure) => status::of_failure(&failure),
            };
        }
        let grant = Grant { subject, said, credential };
        let error = match self.follow_granted(fetcher, resource, asked, &grant).await {
            Ok(reply) => return reply,
            Err(error) => error,
        };
        if !matches!(&*error, FillError::Upstream(failure) if failure.is_denied()) {
            return status::of_fill(&error);
        }
        // The fill may have been another caller's, who no longer may read it.
        match fetcher.entitle(resource, &grant.credential, true, self.patience()).await {
            Entitled::Granted { subject, said } => {
                let grant = Grant { subject, said, ..grant };
                let followed = self.follow_granted(fetcher, resource, asked, &grant).await;
                followed.unwrap_or_else(|error| status::of_fill(&error))
            }
            Entitled::Refused(failure) => status::of_failure(&failure),
            Entitled::Unanswered(_) => status::of_fill(&error),
        }
    }

    /// Answers out of the fill that runs for those whom the hub grants the file.
    ///
    /// # Errors
    /// When the fill fails.
    async fn follow_granted(
        &self,
        fetcher: &Arc<Fetcher>,
        resource: &Resource,
        asked: &Asked<'_>,
        grant: &Grant,
    ) -> Result<Reply, Arc<FillError>> {
        let Grant { subject, said, credential } = grant;
        let (part, said) = (closed_range(asked), said.clone());
        let ticket = fetcher.follow_granted(subject, resource, part, credential.clone(), said)?;
        let settled = self.settle(&ticket, resource, asked).await?;
        Ok(self.settled(resource, asked, ticket, settled).await)
    }

    /// The hub cannot be asked: what the caller was granted last, if by the rules that is enough.
    pub(super) async fn last_granted(
        &self,
        resource: &Resource,
        asked: &Asked<'_>,
        failure: &Failure,
    ) -> Reply {
        match self.granted_before(resource, asked).await {
            Some(reply) => reply,
            None => status::of_failure(failure),
        }
    }

    /// What the caller was granted last and is held, if by the rules that is enough.
    pub(super) async fn granted_before(&self, resource: &Resource, asked: &Asked<'_>) -> Option<Reply> {
        let credential = Self::credential(asked, resource.hub)?;
        let entry = self.cache.last_granted(resource, &credential, Timestamp::now())?;
        Some(self.serve(resource, asked, &entry, Outcome::Stale).await)
    }
}
