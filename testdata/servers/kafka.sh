#!/usr/bin/env bash
# Runs a real Apache Kafka (KRaft) on free loopback ports, for tests and benchmarks.
#
#   kafka.sh start DIR [--nodes N]   starts what does not run yet, prints the environment to eval
#   kafka.sh env DIR                 prints that environment again
#   kafka.sh stop DIR [NODE] [--immediate]
#                                    stops all nodes, or the one of that number, with --immediate by
#                                    SIGKILL; `start` brings them back on their ports
#
# DIR keeps data, logs, ports and certificates and may be removed after `stop`. Every node has four
# listeners: plain text; SASL over TLS (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512); TLS that demands a
# client certificate; and plain text behind a proxy, which is whoever listens on KAFKA_PROXY and
# passes on to KAFKA_PROXIED. ACLs are enforced once a resource has one; plain text is above them.
#
# With Java 17 and Maven the broker's jars are fetched once into $POSTRIDER_CACHE (default: .cache in
# the checkout). Without them, but with a Docker engine, the apache/kafka image runs the same files.
# KAFKA_HEAP (default 512m) sets the size of each node's heap.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=4.3.1 # also in kafka.pom.xml
USER_NAME=postrider
PASSWORD=postrider-secret
IMAGE=apache/kafka:$VERSION

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# choose_runtime sets HOW to java or docker, and CLASSPATH.
choose_runtime() {
  if command -v java >/dev/null 2>&1 && { [ -f "$CACHE/kafka-$VERSION/complete" ] || command -v mvn >/dev/null 2>&1; }; then
    HOW=java CLASSPATH="$CACHE/kafka-$VERSION/*"
    fetch_jars
  elif docker version >/dev/null 2>&1; then
    HOW=docker CLASSPATH="/opt/kafka/libs/*"
  else
    need java default-jre-headless maven
    need mvn maven
  fi
}

fetch_jars() {
  maven_jars "$CACHE/kafka-$VERSION" "$CHECKOUT/testdata/servers/kafka.pom.xml" "Kafka $VERSION (55 MB)" "kafka.version=$VERSION" \
    ", or set KAFKA_BROKERS to a broker of your own"
}

properties() {
  local node=$1 plain sasl mtls controller proxied proxy factor=$(( NODES < 3 ? 1 : 3 ))
  read -r plain sasl mtls controller proxied proxy <"$DIR/node$node/ports"
  cat <<P
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$VOTERS
listeners=PLAINTEXT://127.0.0.1:$plain,SASL://127.0.0.1:$sasl,MTLS://127.0.0.1:$mtls,PROXIED://127.0.0.1:$proxied,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$plain,SASL://127.0.0.1:$sasl,MTLS://127.0.0.1:$mtls,PROXIED://127.0.0.1:$proxy
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$DIR/node$node/data

ssl.keystore.type=PEM
ssl.keystore.location=$DIR/tls/server-keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$DIR/tls/ca.pem
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$USER_NAME="$PASSWORD";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS

auto.create.topics.enable=false
default.replication.factor=$factor
min.insync.replicas=$(( factor == 3 ? 2 : 1 ))
offsets.topic.replication.factor=$factor
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$factor
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$factor
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
P
}

# configure writes all files of a new cluster; an existing one keeps its ports and its data.
configure() {
  local node
  [ -f "$DIR/nodes" ] && return
  certificates "$DIR/tls"
  cat "$DIR/tls/server.key" "$DIR/tls/server.pem" >"$DIR/tls/server-keystore.pem"
  cat >"$DIR/log4j2.xml" <<'X'
<Configuration status="WARN">
  <Appenders><Console name="console"><PatternLayout pattern="%d %p %c: %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
X
  VOTERS=
  for node in $(seq "$NODES"); do
    mkdir -p "$DIR/node$node"
    echo "$(free_port) $(free_port) $(free_port) $(free_port) $(free_port) $(free_port)" >"$DIR/node$node/ports"
    VOTERS+=${VOTERS:+,}$node@127.0.0.1:$(cut -d' ' -f4 "$DIR/node$node/ports")
  done
  for node in $(seq "$NODES"); do
    properties "$node" >"$DIR/node$node/server.properties"
  done
  # An id is 16 bytes in base64; letters in place of + and / keep it from looking like an option.
  openssl rand -base64 16 | tr '+/' 'AB' | cut -c1-22 >"$DIR/cluster-id"
  echo "$NODES" >"$DIR/nodes"
}

format() {
  local node=$1 log=$DIR/node$1/format.log
  [ -f "$DIR/node$node/data/meta.properties" ] && return
  set -- -cp "$CLASSPATH" -Xmx256m -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$DIR/log4j2.xml" \
    kafka.tools.StorageTool format --cluster-id "$(cat "$DIR/cluster-id")" \
    --config "$DIR/node$node/server.properties" \
    --add-scram "SCRAM-SHA-256=[name=$USER_NAME,password=$PASSWORD]" \
    --add-scram "SCRAM-SHA-512=[name=$USER_NAME,password=$PASSWORD]"
  case $HOW in
    java) java "$@" >"$log" 2>&1 ;;
    docker) docker run --rm --user "$(id -u):$(id -g)" -v "$DIR:$DIR" --entrypoint java "$IMAGE" "$@" >"$log" 2>&1 ;;
  esac || { tail -20 "$log" >&2; die "formatting node $node failed, see $log"; }
}

running() {
  local id
  if [ -f "$DIR/node$1/container" ]; then
    id=$(cat "$DIR/node$1/container")
    [ "$(docker inspect --format '{{.State.Running}}' "$id" 2>/dev/null)" = true ]
  else
    runs "$DIR/node$1/pid" "$DIR/node$1/server.properties"
  fi
}

launch() {
  local node=$1 log=$DIR/node$1/server.log detach
  running "$node" && return
  : >"$log"
  set -- -cp "$CLASSPATH" "-Xmx${KAFKA_HEAP:-512m}" "-Dlog4j2.configurationFile=$DIR/log4j2.xml" \
    kafka.Kafka "$DIR/node$node/server.properties"
  case $HOW in
    java)
      # In a session of its own, so that Ctrl-C reaches the tests first and `stop` ends the broker.
      detach=$(command -v setsid || command -v nohup)
      "$detach" java "$@" >"$log" 2>&1 </dev/null &
      echo $! >"$DIR/node$node/pid"
      # The child is this shell until it runs java: on a busy machine that is not at once.
      for _ in $(seq 1000); do
        if running "$node" || ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.01
      done
      ;;
    docker)
      docker run --rm -d --network host --user "$(id -u):$(id -g)" -v "$DIR:$DIR" \
        --entrypoint sh "$IMAGE" -c 'log=$1; shift; exec java "$@" >"$log" 2>&1' sh "$log" "$@" \
        >"$DIR/node$node/container"
      ;;
  esac
}

await() {
  local node=$1 log=$DIR/node$1/server.log
  for _ in $(seq 1800); do
    if ! running "$node"; then
      tail -20 "$log" >&2
      die "node $node ended while starting, see $log"
    fi
    grep -q 'Kafka Server started' "$log" && return
    sleep 0.1
  done
  die "node $node is not ready after three minutes, see $log"
}

# halt NODE [--immediate]
halt() {
  local node=$1 pid grace=100
  if [ "${2:-}" = --immediate ]; then grace=0; fi
  if running "$node"; then
    if [ -f "$DIR/node$node/container" ]; then
      docker stop -t $((grace / 10)) "$(cat "$DIR/node$node/container")" >/dev/null
    else
      pid=$(cat "$DIR/node$node/pid")
      if [ $grace != 0 ]; then kill "$pid" 2>/dev/null || true; fi
      for _ in $(seq $grace); do
        running "$node" || break
        sleep 0.1
      done
      if running "$node"; then kill -KILL "$pid" 2>/dev/null || true; fi
      # The ports are free for the next start only when the process is gone.
      while running "$node"; do sleep 0.1; done
    fi
  fi
  rm -f "$DIR/node$node/pid" "$DIR/node$node/container"
}

# addresses FIELD joins the addresses of one listener of all nodes.
addresses() {
  local node all=
  for node in $(seq "$(cat "$DIR/nodes")"); do
    all+=${all:+,}127.0.0.1:$(cut -d' ' -f"$1" "$DIR/node$node/ports")
  done
  echo "$all"
}

print_env() {
  [ -f "$DIR/nodes" ] || die "$DIR has no cluster; make one with: $0 start $DIR"
  cat <<E
export KAFKA_BROKERS='$(addresses 1)'
export KAFKA_SASL_BROKERS='$(addresses 2)'
export KAFKA_SASL_USERNAME='$USER_NAME'
export KAFKA_SASL_PASSWORD='$PASSWORD'
export KAFKA_MTLS_BROKERS='$(addresses 3)'
export KAFKA_PROXIED='$(addresses 5)'
export KAFKA_PROXY='$(addresses 6)'
export KAFKA_TLS_CA='$DIR/tls/ca.pem'
export KAFKA_TLS_CERT='$DIR/tls/client.pem'
export KAFKA_TLS_KEY='$DIR/tls/client.key'
E
}

[ $# -ge 2 ] || usage
ACTION=$1 NODES=1
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
shift 2
case $ACTION in
  start)
    if [ "${1:-}" = --nodes ]; then NODES=${2:?how many nodes}; fi
    choose_runtime
    configure
    NODES=$(cat "$DIR/nodes")
    pids=()
    for node in $(seq "$NODES"); do format "$node" & pids+=($!); done
    for pid in "${pids[@]}"; do wait "$pid"; done
    # A half-started cluster would outlive a caller that only sees the failure.
    trap 'for node in $(seq "$NODES"); do halt "$node" --immediate; done' EXIT
    trap 'exit 130' INT TERM
    for node in $(seq "$NODES"); do launch "$node"; done
    for node in $(seq "$NODES"); do await "$node"; done
    trap - EXIT INT TERM
    print_env
    ;;
  env) print_env ;;
  stop)
    [ -f "$DIR/nodes" ] || exit 0
    nodes=$(seq "$(cat "$DIR/nodes")")
    if [ "${1:---immediate}" != --immediate ]; then
      nodes=$1
      shift
    fi
    # Together: a node alone would wait for the quorum that the others have just left.
    for node in $nodes; do halt "$node" "$@" & done
    wait
    ;;
  *) usage ;;
esac
