//! What a hub has of a model at a revision: the commit, and the list of all its files.

use std::sync::Arc;

use super::checks::Checked;
use super::settled::MAX_PAGES;
use super::{Fetcher, NotBrought};
use crate::hub::api::{self, Listed};
use crate::model::{Commit, Document, Hub, Question, Repo, Revision, Topic};
use crate::upstream::Failure;

/// A model as its hub lists it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// For what the revision stands.
    pub commit: Commit,
    /// All files, in the order of their paths.
    pub files: Vec<Listed>,
}

impl Fetcher {
    /// Asks Hugging Face for what a revision stands, and for all files of that commit. What it says is kept as answers
    /// to clients are.
    ///
    /// # Errors
    /// See [`NotBrought`].
    pub async fn survey(self: &Arc<Self>, repo: &Repo, revision: &Revision) -> Result<Survey, NotBrought> {
        let commit = match revision {
            Revision::Commit(commit) => commit.clone(),
            named => {
                let info = self.put_question(&Question::info(repo.clone(), named.clone())).await?;
                api::commit_of(&info).or_else(|| info.commit.clone()).ok_or(NotBrought::Missing)?
            }
        };
        let revision = Revision::Commit(commit.clone());
        let parameters = vec![("recursive".to_owned(), "true".to_owned())];
        let topic = Topic::Tree { revision: revision.clone(), path: String::new() };
        let mut question = Question { repo: repo.clone(), topic, parameters };
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = match self.cache().document(&question).map_err(NotBrought::Store)? {
                Some(page) => page,
                None => self.put_question(&question).await?,
            };
            files.extend(api::listed(&page).filter(|_| page.status == 200).ok_or(NotBrought::Missing)?);
            match page.next.as_deref().map(|next| super::settled::next_page(next, &revision)) {
                None => {
                    files.sort_by(|a, b| a.path.cmp(&b.path));
                    return Ok(Survey { commit, files });
                }
                Some(Some(next)) => question = next,
                Some(None) => break,
            }
        }
        Err(NotBrought::Failed(Arc::new(Failure::TooLong { limit: MAX_PAGES })))
    }

    async fn put_question(self: &Arc<Self>, question: &Question) -> Result<Arc<Document>, NotBrought> {
        match self.ask(question, None).await {
            Checked::Answered(Ok(document)) => Ok(document),
            Checked::Answered(Err(failure)) if failure.is_denied() => Err(NotBrought::Missing),
            Checked::Answered(Err(failure)) => Err(NotBrought::Failed(failure)),
            Checked::Late => Err(NotBrought::Failed(Arc::new(self.upstream().why_down(Hub::HuggingFace)))),
        }
    }
}
