package peers;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Flink's DataStream API in a mini-cluster of one task slot: exactly-once sink, state in RocksDB, incremental checkpoints
 * to a folder.
 *
 * <p>Settings. Objects are reused between chained operators; JSON is read where the record is, and what is sent to the
 * keyed operator is a tuple of three. 512 MB of managed memory for RocksDB, buffers sent when full or after 100 ms. A
 * checkpoint every ten seconds, as Bytewax's epochs: a shorter one costs more and commits sooner. Parallelism 1, since
 * every contender has one core.
 */
public final class WithFlink {
    private static Account account; // of this process, in which the whole cluster is

    public static void main(String[] arguments) throws Exception {
        Job job = Job.of(arguments);
        account = new Account(job.readings());
        StreamExecutionEnvironment flink = StreamExecutionEnvironment.createLocalEnvironment(1, settings(job));
        flink.getConfig().enableObjectReuse();
        flink.enableCheckpointing(10_000, CheckpointingMode.EXACTLY_ONCE);
        flink.setBufferTimeout(100);
        flink.fromSource(source(job), WatermarkStrategy.noWatermarks(), "readings")
                .keyBy(reading -> reading.f0, Types.STRING)
                .process(new Judging())
                .sinkTo(sink(job));
        flink.execute("peer"); // until the source has come to its end and the last checkpoint is through
        account.close();
    }

    private static Configuration settings(Job job) {
        Configuration settings = new Configuration();
        settings.set(StateBackendOptions.STATE_BACKEND, "rocksdb");
        settings.set(CheckpointingOptions.INCREMENTAL_CHECKPOINTS, true);
        settings.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        settings.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, job.folder().resolve("checkpoints").toUri().toString());
        settings.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.ofMebiBytes(512));
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        return settings;
    }

    private static KafkaSource<Tuple3<String, Long, Double>> source(Job job) {
        return KafkaSource.<Tuple3<String, Long, Double>>builder()
                .setBootstrapServers(job.servers())
                .setTopics(job.topic())
                .setGroupId(job.group())
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setBounded(OffsetsInitializer.latest())
                .setDeserializer(new ReadJson())
                .setProperty("fetch.max.bytes", Integer.toString(16 << 20))
                .setProperty("max.partition.fetch.bytes", Integer.toString(4 << 20))
                .setProperty("max.poll.records", "10000")
                .build();
    }

    private static KafkaSink<Tuple2<String, byte[]>> sink(Job job) {
        Properties settings = new Properties();
        settings.put("transaction.timeout.ms", Long.toString(Duration.ofMinutes(10).toMillis()));
        settings.put("compression.type", "lz4");
        settings.put("linger.ms", "100");
        String topic = job.anomalies();
        KafkaRecordSerializationSchema<Tuple2<String, byte[]>> keyed = (anomaly, context, timestamp) ->
                new ProducerRecord<>(topic, anomaly.f0.getBytes(StandardCharsets.UTF_8), anomaly.f1);
        return KafkaSink.<Tuple2<String, byte[]>>builder()
                .setBootstrapServers(job.servers())
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                .setTransactionalIdPrefix(job.group())
                .setKafkaProducerConfig(settings)
                .setRecordSerializer(keyed)
                .build();
    }

    private static final class ReadJson implements KafkaRecordDeserializationSchema<Tuple3<String, Long, Double>> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Tuple3<String, Long, Double>> out) {
            Reading reading = Reading.of(record.value());
            String stream = new String(record.key(), StandardCharsets.UTF_8);
            out.collect(Tuple3.of(stream, reading.timestamp(), reading.value()));
        }

        @Override
        public TypeInformation<Tuple3<String, Long, Double>> getProducedType() {
            return Types.TUPLE(Types.STRING, Types.LONG, Types.DOUBLE);
        }
    }

    private static final class Judging
            extends KeyedProcessFunction<String, Tuple3<String, Long, Double>, Tuple2<String, byte[]>> {
        private transient Statistics statistics;
        private transient ValueState<Tuple3<Long, Double, Double>> states;

        @Override
        public void open(OpenContext context) {
            statistics = new Statistics();
            states = getRuntimeContext()
                    .getState(new ValueStateDescriptor<>("state", Types.TUPLE(Types.LONG, Types.DOUBLE, Types.DOUBLE)));
        }

        @Override
        public void processElement(
                Tuple3<String, Long, Double> reading, Context context, Collector<Tuple2<String, byte[]>> out)
                throws Exception {
            Tuple3<Long, Double, Double> before = states.value();
            statistics.clear();
            if (before != null) {
                statistics.count = before.f0;
                statistics.mean = before.f1;
                statistics.variance = before.f2;
            }
            double score = statistics.judge(reading.f2);
            states.update(Tuple3.of(statistics.count, statistics.mean, statistics.variance));
            boolean anomalous = Statistics.anomalous(score);
            if (anomalous) {
                out.collect(Tuple2.of(reading.f0, new Reading(reading.f1, reading.f2).anomaly(reading.f0, score)));
            }
            account.judged(anomalous);
        }
    }
}
