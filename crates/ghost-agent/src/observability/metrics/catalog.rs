//! Every metric that there is. Invariant: what is rendered is described here, under a name that follows Prometheus'
//! conventions (base units, counters end in `_total`), and docs/observability/metrics.md tells the same; a test holds all
//! three together.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metric {
    /// As it is stored by Prometheus, apart from a histogram's suffixes.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// The name without the suffix of a counter and the unit: OpenMetrics adds them.
    pub(super) fn base(&self) -> &'static str {
        let family = self.name.strip_suffix("_total").unwrap_or(self.name);
        let unit = self.unit();
        let bare = unit.and_then(|unit| family.strip_suffix(unit.as_str())?.strip_suffix('_'));
        bare.unwrap_or(family)
    }

    pub(super) fn unit(&self) -> Option<&'static Unit> {
        let family = self.name.strip_suffix("_total").unwrap_or(self.name);
        [&Unit::Seconds, &Unit::Bytes].into_iter().find(|unit| family.ends_with(unit.as_str()))
    }

    pub(super) const fn kind(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Names the metrics, and all of them.
macro_rules! metrics {
    ($($id:ident = $kind:ident($name:literal, [$($label:literal),*], $help:literal);)*) => {
        $(pub(super) const $id: Metric = $kind($name, &[$($label),*], $help);)*
        /// In the order in which they are documented.
        #[cfg(test)]
        pub(super) const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD_INFO = gauge("ghost_agent_build_info", ["version", "arch", "acceleration"], "The program that runs, always 1");
    READY = gauge("ghost_agent_ready", [], "1 if the agent takes calls and libvirt is there");
    START_TIME = gauge("ghost_agent_start_time_seconds", [], "When the agent started, since 1970");
    CHECK_STATE = gauge("ghost_health_check_state", ["check", "state"], "1 for the state that a health check is in, else 0");

    PROCESS_CPU = counter("process_cpu_seconds_total", [], "CPU time that the agent used");
    PROCESS_RESIDENT = gauge("process_resident_memory_bytes", [], "Memory of the agent that is in RAM");
    PROCESS_VIRTUAL = gauge("process_virtual_memory_bytes", [], "Address space of the agent");
    PROCESS_FDS = gauge("process_open_fds", [], "Open file descriptors of the agent");
    PROCESS_MAX_FDS = gauge("process_max_fds", [], "File descriptors that the agent may open");
    PROCESS_START = gauge("process_start_time_seconds", [], "When the process started, since 1970");
    PROCESS_THREADS = gauge("process_threads", [], "Threads of the agent");

    VMS_CREATED = counter("ghost_vms_created_total", [], "VMs that were created and have their address; one that is kept without (vm.keep_failed) counts as a failure");
    VM_CREATE_FAILURES = counter("ghost_vm_create_failures_total", ["error_code"], "Creates that failed or were refused, by the error that the caller got");
    VMS_DELETED = counter("ghost_vms_deleted_total", [], "VMs that were deleted, with everything that was made for them");
    VMS = gauge("ghost_vms", ["status"], "VMs by status");
    VMS_RUNNING = gauge("ghost_vms_running", [], "VMs that run");
    VM_INFO = gauge("ghost_vm_info", ["vm_id", "vm_name", "template", "status"], "A VM, always 1");
    VM_CPU = gauge("ghost_vm_cpu_usage_ratio", ["vm_id", "vm_name"], "What a VM uses of its vCPUs, 0 to 1");
    VM_MEMORY = gauge("ghost_vm_memory_usage_ratio", ["vm_id", "vm_name"], "What a VM's guest uses of its memory, 0 to 1");
    VM_HOST_MEMORY = gauge("ghost_vm_host_memory_bytes", ["vm_id", "vm_name"], "What a VM takes of the host's memory");
    VM_DISK_USED = gauge("ghost_vm_disk_used_bytes", ["vm_id", "vm_name"], "What a VM's disk takes of the pool");
    VM_RECEIVED = counter("ghost_vm_network_receive_bytes_total", ["vm_id", "vm_name"], "What a VM received since it was started");
    VM_SENT = counter("ghost_vm_network_transmit_bytes_total", ["vm_id", "vm_name"], "What a VM sent since it was started");
    VM_READ = counter("ghost_vm_disk_read_bytes_total", ["vm_id", "vm_name"], "What a VM read from its disk since it was started");
    VM_WRITTEN = counter("ghost_vm_disk_written_bytes_total", ["vm_id", "vm_name"], "What a VM wrote to its disk since it was started");
    CREATE_DURATION = histogram("ghost_vm_create_duration_seconds", ["outcome"], "From the request to create a VM to the answer, the image's download included");
    STEP_DURATION = histogram("ghost_vm_create_step_duration_seconds", ["step", "outcome"], "The steps of a create");
    LEDGER_RECORDS = gauge("ghost_ledger_records", ["stage"], "VMs in the ledger, by how far their life has come");

    GRPC_REQUESTS = counter("ghost_grpc_requests_total", ["rpc", "code"], "Calls that have ended, streams and those that were refused at the door included");
    GRPC_DURATION = histogram("ghost_grpc_request_duration_seconds", ["rpc", "code"], "From a call's message to its answer; streams are not timed");
    RATE_LIMITED = counter("ghost_grpc_rate_limited_total", ["limit"], "Calls that were refused because there were too many");

    LIBVIRT_DURATION = histogram("ghost_libvirt_call_duration_seconds", ["call"], "Calls of libvirt that were made, the wait for a free connection included");
    LIBVIRT_ERRORS = counter("ghost_libvirt_call_errors_total", ["call", "kind"], "Calls of libvirt that failed or were refused");
    BREAKER_STATE = gauge("ghost_libvirt_breaker_state", ["state"], "1 for the state that the circuit breaker is in, else 0");
    LIBVIRT_CONNECTED = gauge("ghost_libvirt_connected", [], "1 if libvirt is there");
    LIBVIRT_WORKERS = gauge("ghost_libvirt_workers", ["state"], "Threads that call libvirt");
    CACHE_AGE = gauge("ghost_cache_age_seconds", [], "How old what the agent tells of VMs is, 0 while libvirt answers");

    CPUS = gauge("ghost_cpus", ["kind"], "Logical CPUs of the host");
    MEMORY = gauge("ghost_memory_bytes", ["kind"], "Memory of the host");
    DISK = gauge("ghost_disk_bytes", ["kind"], "The file system of the storage pool");
    POLICY_ENFORCED = gauge("ghost_guest_policy_enforced", ["policy"], "1 if guests are held to a policy that the configuration asks for, 0 if the host can not");

    DOWNLOADS = counter("ghost_image_downloads_total", ["outcome"], "Base images that were fetched");
    DOWNLOAD_BYTES = counter("ghost_image_download_bytes_total", [], "Bytes of base images that came in, those of fetches that failed included");
    IMAGE_FETCHES = gauge("ghost_image_fetches", [], "Fetches of base images that are under way");
    IMAGE_CACHE = gauge("ghost_image_cache_bytes", [], "What the cached base images take of the disk");
    IMAGE_CACHE_IMAGES = gauge("ghost_image_cache_images", [], "Cached base images, those in quarantine included");
    IMAGE_CACHE_LIMIT = gauge("ghost_image_cache_limit_bytes", [], "What the cached base images may take of the disk");

    HEARTBEATS = counter("ghost_heartbeats_total", ["outcome"], "Signs of life to the control plane");
    HEARTBEAT_RATIO = gauge("ghost_heartbeat_success_ratio", [], "What part of the last 20 signs of life the control plane took");
    HEARTBEAT_DURATION = histogram("ghost_heartbeat_duration_seconds", [], "From a sign of life to the answer, or the failure");
    HEARTBEAT_LAST = gauge("ghost_heartbeat_last_success_timestamp_seconds", [], "When the control plane last took a sign of life, since 1970");
    REGISTERED = gauge("ghost_control_plane_registered", [], "1 if the control plane knows this process");
    EVENT_QUEUE = gauge("ghost_event_queue_events", [], "Changes of VMs that the control plane has not acknowledged");
    EVENTS_REPORTED = counter("ghost_events_reported_total", [], "Changes of VMs that the control plane has acknowledged");
    CERTIFICATE_EXPIRY = gauge("ghost_certificate_expiry_timestamp_seconds", [], "The last second of the certificate in force, since 1970");

    LOG_LINES = counter("ghost_log_lines_total", ["level"], "Lines that were logged");
    LOG_LINES_DROPPED = counter("ghost_log_lines_dropped_total", [], "Lines that were lost because the log could not be written");
}
