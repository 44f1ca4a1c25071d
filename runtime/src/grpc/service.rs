//! The calls.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use migrator_actors::statistic::{Counts, Total};
use migrator_models::{Datatype, TensorSpec};
use migrator_protocol::grpc_inference_service_server::GrpcInferenceService;
use migrator_protocol::infer_parameter::ParameterChoice;
use migrator_protocol::model_metadata_response::TensorMetadata;
use migrator_protocol::repository_index_response::ModelIndex;
use migrator_protocol::*;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{infer, status};
use crate::config::Scope;
use crate::http::model::{BACKEND, EXTENSIONS, PLATFORM};
use crate::http::setting::Logging;
use crate::http::trace::Changes;
use crate::http::{ApiError, AppState, Tenant, repository};

pub(super) struct Service(pub Arc<AppState>);

type Answer<T> = Result<Response<T>, Status>;
type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// Requests of one stream that are in work at once; their answers come in the order of the requests.
const AHEAD: usize = 64;

impl Service {
    /// Whether the caller's key is for this; a model's name means its tenant.
    fn allow<T>(&self, request: &Request<T>, scope: Scope, model: Option<&str>) -> Result<(), Status> {
        let sent = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        self.0.allow(sent, scope, model).map_err(status)
    }

    fn model(&self, name: &str, version: &str) -> Result<Arc<Tenant>, Status> {
        self.0.version(name, Some(version).filter(|version| !version.is_empty())).map_err(status)
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream = Answers;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.0.check_ready().is_ok() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        self.allow(&request, Scope::Inference, Some(&request.get_ref().name))?;
        let ModelReadyRequest { name, version } = request.into_inner();
        let version = Some(version.as_str()).filter(|version| !version.is_empty());
        Ok(Response::new(ModelReadyResponse { ready: self.0.check_model_ready(&name, version).is_ok() }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        let extensions = EXTENSIONS.map(str::to_owned).to_vec();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(ServerMetadataResponse { name: "migrator".to_owned(), version, extensions }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        self.allow(&request, Scope::Inference, Some(&request.get_ref().name))?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        let tenant = self.model(&name, &version)?;
        let tensor = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.datatype.name().to_owned(),
            shape: std::iter::once(-1).chain(dims(spec)).collect(),
        };
        Ok(Response::new(ModelMetadataResponse {
            name,
            versions: vec![tenant.front.version().to_string()],
            platform: PLATFORM.to_owned(),
            inputs: tenant.inputs.iter().map(tensor).collect(),
            outputs: vec![tensor(&tenant.front.spec().output())],
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        self.allow(&request, Scope::Inference, Some(&request.get_ref().model_name))?;
        let arrived = Instant::now();
        let (metadata, _, message) = request.into_parts();
        let traceparent = metadata.get("traceparent").and_then(|value| value.to_str().ok());
        infer::infer(&self.0, arrived, traceparent, message).await.map(Response::new).map_err(status)
    }

    async fn model_stream_infer(&self, request: Request<Streaming<ModelInferRequest>>) -> Answer<Answers> {
        let state = Arc::clone(&self.0);
        let sent = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let answers = request.into_inner().map(move |message| {
            let (state, sent, arrived) = (Arc::clone(&state), sent.clone(), Instant::now());
            async move {
                let message = message?;
                let id = message.id.clone();
                state.allow(sent.as_deref(), Scope::Inference, Some(&message.model_name)).map_err(status)?;
                Ok(match infer::infer(&state, arrived, None, message).await {
                    Ok(mut answer) => {
                        // Every request has one answer.
                        let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
                        answer.parameters.insert("triton_final_response".to_owned(), last);
                        ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
                    }
                    // The id tells the client which of its requests this is about.
                    Err(error) => ModelStreamInferResponse {
                        error_message: error.message,
                        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
                    },
                })
            }
        });
        Ok(Response::new(Box::pin(answers.buffered(AHEAD))))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        self.allow(&request, Scope::Inference, Some(&request.get_ref().name))?;
        let ModelConfigRequest { name, version } = request.into_inner();
        let tenant = self.model(&name, &version)?;
        let (spec, output) = (tenant.front.spec(), tenant.front.spec().output());
        let input = |spec: &TensorSpec| ModelInput {
            name: spec.name.clone(),
            data_type: data_type(spec.datatype).into(),
            dims: dims(spec).collect(),
        };
        let config = ModelConfig {
            name,
            platform: PLATFORM.to_owned(),
            backend: BACKEND.to_owned(),
            max_batch_size: i32::try_from(spec.max_batch).unwrap_or(i32::MAX),
            input: tenant.inputs.iter().map(input).collect(),
            output: vec![ModelOutput { dims: dims(&output).collect(), data_type: data_type(output.datatype).into(), name: output.name }],
            dynamic_batching: Some(ModelDynamicBatching::default()),
        };
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(&self, request: Request<ModelStatisticsRequest>) -> Answer<ModelStatisticsResponse> {
        let (scope, name) = match request.get_ref().name.as_str() {
            "" => (Scope::Admin, None),
            name => (Scope::Inference, Some(name)),
        };
        self.allow(&request, scope, name)?;
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let model_stats = if name.is_empty() {
            self.0.tenants.all().iter().map(|(name, tenant)| statistics(name, tenant)).collect()
        } else {
            let tenant = self.model(&name, &version)?;
            vec![statistics(&name, &tenant)]
        };
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Answer<RepositoryIndexResponse> {
        self.allow(&request, Scope::Admin, None)?;
        let request = request.into_inner();
        unnamed(&request.repository_name)?;
        let entry = |entry: repository::Entry| ModelIndex {
            name: entry.name,
            version: entry.version,
            state: entry.state.to_owned(),
            reason: entry.reason.to_owned(),
        };
        Ok(Response::new(RepositoryIndexResponse { models: self.0.index(request.ready).into_iter().map(entry).collect() }))
    }

    async fn repository_model_load(&self, request: Request<RepositoryModelLoadRequest>) -> Answer<RepositoryModelLoadResponse> {
        self.allow(&request, Scope::Admin, None)?;
        let request = request.into_inner();
        unnamed(&request.repository_name)?;
        repository::check_load(request.parameters.keys()).map_err(status)?;
        self.0.load(&request.model_name).await.map_err(status)?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(&self, request: Request<RepositoryModelUnloadRequest>) -> Answer<RepositoryModelUnloadResponse> {
        self.allow(&request, Scope::Admin, None)?;
        let request = request.into_inner();
        unnamed(&request.repository_name)?;
        self.0.unload(&request.model_name).map_err(status)?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Answer<TraceSettingResponse> {
        self.allow(&request, Scope::Admin, None)?;
        let TraceSettingRequest { settings, model_name } = request.into_inner();
        let tenant = if model_name.is_empty() { None } else { Some(self.0.tenant(&model_name).map_err(status)?.name.clone()) };
        let changes: Changes = settings.into_iter().map(|(key, value)| (key, Some(value.value).filter(|v| !v.is_empty()))).collect();
        if !changes.is_empty() {
            self.0.trace.change(tenant.as_deref(), &changes).map_err(|line| status(ApiError::bad_request(line)))?;
        }
        let shown = self.0.trace.show(tenant.as_deref()).into_iter();
        let settings = shown.map(|(key, value)| (key.to_owned(), trace_setting_response::SettingValue { value })).collect();
        Ok(Response::new(TraceSettingResponse { settings }))
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Answer<LogSettingsResponse> {
        self.allow(&request, Scope::Admin, None)?;
        use log_settings_request::setting_value::ParameterChoice as Given;
        let given = request.into_inner().settings.into_iter().map(|(key, value)| {
            let value = match value.parameter_choice {
                Some(Given::BoolParam(value)) => Value::from(value),
                Some(Given::Uint32Param(value)) => Value::from(value),
                Some(Given::StringParam(value)) => Value::from(value),
                None => Value::Null,
            };
            (key, value)
        });
        let changes: Map<String, Value> = given.collect();
        let logging = Logging::now().with(&changes).map_err(status)?;
        if !changes.is_empty() {
            logging.apply().map_err(status)?;
        }
        Ok(Response::new(LogSettingsResponse { settings: shown(logging) }))
    }
}

fn shown(logging: Logging) -> HashMap<String, log_settings_response::SettingValue> {
    use log_settings_response::setting_value::ParameterChoice as Shown;
    let Value::Object(shown) = logging.shown() else { return HashMap::new() };
    let setting = |value: Value| match value {
        Value::Bool(value) => Shown::BoolParam(value),
        Value::Number(value) => Shown::Uint32Param(value.as_u64().and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX)),
        other => Shown::StringParam(other.as_str().unwrap_or_default().to_owned()),
    };
    let value = |value| log_settings_response::SettingValue { parameter_choice: Some(setting(value)) };
    shown.into_iter().map(|(key, shown)| (key, value(shown))).collect()
}

fn unnamed(repository: &str) -> Result<(), Status> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(Status::unimplemented(format!("repository {repository:?}: there is one repository, without a name")))
}

fn dims(spec: &TensorSpec) -> impl Iterator<Item = i64> + '_ {
    spec.shape.iter().map(|&size| i64::from(size))
}

fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}

fn statistics(name: &str, tenant: &Tenant) -> ModelStatistics {
    let counts: Counts = tenant.front.counts();
    let of = |total: Total| Some(StatisticDuration { count: total.count, ns: total.ns });
    ModelStatistics {
        name: name.to_owned(),
        version: tenant.front.version().to_string(),
        last_inference: counts.last_ms,
        inference_count: counts.rows,
        execution_count: counts.batches,
        inference_stats: Some(InferStatistics {
            success: of(counts.success),
            fail: of(counts.refused()),
            queue: of(counts.waited),
            compute_input: of(counts.carried),
            compute_infer: of(counts.computed),
            compute_output: of(counts.returned),
            cache_hit: of(Total::default()),
            cache_miss: of(Total::default()),
        }),
        batch_stats: counts
            .by_size
            .iter()
            .map(|(rows, batch)| InferBatchStatistics {
                batch_size: u64::from(*rows),
                compute_input: of(batch.carried),
                compute_infer: of(batch.computed),
                compute_output: of(batch.returned),
            })
            .collect(),
    }
}
