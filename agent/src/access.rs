//! Questions to the operator, on the stream: may the bearer of this token read the metrics of this agent?

use std::collections::HashMap;
use std::time::Duration;

use protocol::proto::{self, agent_message};
use protocol::{Access, Token};
use tokio::sync::{mpsc, oneshot};

/// One question.
#[derive(Debug)]
pub struct Question {
    token: Token,
    /// Dropped where nobody can say.
    answer: oneshot::Sender<Access>,
}

/// The end of those who ask.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Question>);

/// The end of the stream.
#[derive(Debug)]
pub struct Questions {
    waiting: mpsc::Receiver<Question>,
    /// Those that the operator has not answered yet.
    asked: HashMap<u64, oneshot::Sender<Access>>,
    last: u64,
}

/// Questions that wait to be asked, and those that wait for their answer.
const MOST: usize = 8;
/// A scrape waits no longer for an operator that is slow or away.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Too many ask at once.
    Busy,
    /// The operator does not answer, or cannot say.
    Away,
}

/// Both ends.
pub fn questions() -> (Asker, Questions) {
    let (asker, waiting) = mpsc::channel(MOST);
    (Asker(asker), Questions { waiting, asked: HashMap::new(), last: 0 })
}

impl Asker {
    /// Asks.
    ///
    /// # Errors
    /// Where too many ask already, or nobody says in time.
    pub async fn ask(&self, token: Token) -> Result<Access, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { token, answer }).map_err(|_| Unanswered::Busy)?;
        let answered = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        answered.ok().and_then(Result::ok).ok_or(Unanswered::Away)
    }
}

impl Questions {
    /// Waits for the next question that somebody still waits for, as the message that asks it.
    pub(crate) async fn next(&mut self) -> agent_message::Message {
        loop {
            let Some(Question { token, answer }) = self.waiting.recv().await else {
                return std::future::pending().await;
            };
            self.asked.retain(|_, answer| !answer.is_closed());
            if answer.is_closed() || self.asked.len() >= MOST {
                continue;
            }
            self.last += 1;
            self.asked.insert(self.last, answer);
            let question = proto::AccessQuestion { id: self.last, token: token.secret().to_owned() };
            return agent_message::Message::AccessQuestion(question);
        }
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, answer: &proto::AccessAnswer) {
        let asked = self.asked.remove(&answer.id);
        if let (Some(asked), Some(access)) = (asked, Access::from_answer(answer)) {
            let _ = asked.send(access);
        }
    }

    /// Nobody will answer what this stream was asked.
    pub(crate) fn lose(&mut self) {
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(message: agent_message::Message) -> u64 {
        match message {
            agent_message::Message::AccessQuestion(question) => question.id,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_who_asked_and_one_to_nothing_nobody() {
        let (asker, mut questions) = questions();
        let operator = async {
            let first = id(questions.next().await);
            let second = id(questions.next().await);
            questions.answer(&Access::answer(Some(Access::Allowed), 99));
            questions.answer(&Access::answer(Some(Access::Forbidden), second));
            questions.answer(&Access::answer(Some(Access::Allowed), first));
        };
        let (one, other, ()) = tokio::join!(asker.ask(Token::new("a")), asker.ask(Token::new("b")), operator);
        assert_eq!((one, other), (Ok(Access::Allowed), Ok(Access::Forbidden)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_and_a_question_that_was_given_up_is_not_asked() {
        let (asker, mut questions) = questions();
        assert_eq!(asker.ask(Token::new("given up")).await, Err(Unanswered::Away));
        let operator = async {
            let id = id(questions.next().await);
            questions.answer(&Access::answer(None, id));
            id
        };
        let (answer, id) = tokio::join!(asker.ask(Token::new("b")), operator);
        assert_eq!((answer, id), (Err(Unanswered::Away), 1), "the first one was passed over");
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_can_wait_is_not_kept_waiting() {
        let (asker, _questions) = questions();
        let waiting: Vec<_> = (0..MOST)
            .map(|_| {
                let asker = asker.clone();
                tokio::spawn(async move { asker.ask(Token::new("a")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(asker.ask(Token::new("b")).await, Err(Unanswered::Busy));
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Err(Unanswered::Away));
        }
    }
}
