//! The stateless rules: may this key make this call with this model, and what is to be reserved for it.

use crate::policy::data::KeyPolicy;
use crate::policy::endpoint::Endpoint;
use crate::policy::facts::{Charge, RequestFacts};
use crate::policy::price::Price;
use crate::policy::refusal::Refusal;

/// Checks endpoint, then every model the request names, and says what is to be reserved. `price` is the dearest of theirs.
///
/// # Errors
/// [`Refusal::EndpointNotAllowed`], [`Refusal::ModelNotAllowed`].
pub fn authorize(policy: &KeyPolicy, facts: &RequestFacts, price: Price) -> Result<Charge, Refusal> {
    if !policy.endpoints.allows(facts.endpoint) {
        return Err(Refusal::EndpointNotAllowed { endpoint: facts.endpoint });
    }
    // Of what the operator's own paths reach, only he can know whether it is a model and which (POLICY 1).
    let is_listed = !policy.models.is_unlimited();
    if is_listed && facts.endpoint == Endpoint::Passthrough && !facts.model_free {
        return Err(Refusal::ModelNotAllowed { model: None });
    }
    let named = facts.model.iter().chain(&facts.other_models);
    if let Some(refused) = named.into_iter().find(|model| !policy.models.allows(model.as_str())) {
        return Err(Refusal::ModelNotAllowed { model: Some(refused.clone()) });
    }
    let needs_model = !facts.endpoint.is_local() && !facts.model_free;
    if needs_model && facts.model.is_none() && is_listed {
        return Err(Refusal::ModelNotAllowed { model: None });
    }
    Ok(Charge {
        estimate: facts.estimate,
        price,
        bills_quota: !policy.is_sandbox && !facts.endpoint.is_free() && !facts.endpoint.is_local(),
        can_clamp: facts.endpoint.can_clamp(),
        least_output: facts.endpoint.least_output().max(facts.estimate.least_output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{DialectName, EndpointRules, Estimate, Glob, ModelRules};
    use crate::units::{KeyId, ModelName};
    use uuid::Uuid;

    fn policy() -> KeyPolicy {
        KeyPolicy {
            models: ModelRules::new(vec![Glob::new("gpt-4o*").unwrap()]),
            endpoints: EndpointRules::compile(&["chat"]).unwrap(),
            ..KeyPolicy::unlimited(KeyId(Uuid::nil()), "k", "sk-kw-abc")
        }
    }

    fn facts(endpoint: Endpoint, model: Option<&str>) -> RequestFacts {
        RequestFacts {
            dialect: DialectName::OpenAi,
            endpoint,
            model: model.and_then(ModelName::new),
            other_models: Vec::new(),
            model_free: false,
            stream: false,
            estimate: Estimate { prompt: 10, output: 20, choices: 1, output_is_stated: true, least_output: 1 },
        }
    }

    #[test]
    fn the_endpoint_is_asked_before_the_model() {
        let refused = authorize(&policy(), &facts(Endpoint::Embeddings, Some("other")), Price::TOKEN);
        assert_eq!(refused, Err(Refusal::EndpointNotAllowed { endpoint: Endpoint::Embeddings }));
    }

    #[test]
    fn every_model_a_request_names_must_be_allowed() {
        let mut wanted = facts(Endpoint::ChatCompletions, Some("gpt-4o-mini"));
        assert_eq!(authorize(&policy(), &wanted, Price::TOKEN).map(|c| c.units()), Ok(30));
        wanted.other_models.push(ModelName::new("o3").unwrap());
        let refused = authorize(&policy(), &wanted, Price::TOKEN);
        assert_eq!(refused, Err(Refusal::ModelNotAllowed { model: ModelName::new("o3") }));
    }

    #[test]
    fn a_key_with_a_list_may_not_call_without_a_model_unless_the_operator_said_so() {
        let policy = KeyPolicy { endpoints: EndpointRules::ALL, ..policy() };
        let mut wanted = facts(Endpoint::Passthrough, None);
        assert_eq!(authorize(&policy, &wanted, Price::TOKEN), Err(Refusal::ModelNotAllowed { model: None }));
        wanted.model = ModelName::new("gpt-4o");
        assert_eq!(authorize(&policy, &wanted, Price::TOKEN), Err(Refusal::ModelNotAllowed { model: None }));
        wanted = facts(Endpoint::Passthrough, None);
        wanted.model_free = true;
        assert!(authorize(&policy, &wanted, Price::TOKEN).is_ok());
    }

    #[test]
    fn a_sandbox_key_bills_nothing_and_reserves_tokens_all_the_same() {
        let policy = KeyPolicy { is_sandbox: true, ..policy() };
        let charge = authorize(&policy, &facts(Endpoint::ChatCompletions, Some("gpt-4o")), Price::TOKEN).unwrap();
        assert_eq!((charge.units(), charge.tokens()), (0, 30));
    }
}
