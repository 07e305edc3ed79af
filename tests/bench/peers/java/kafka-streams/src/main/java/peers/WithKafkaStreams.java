package peers;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.function.Supplier;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams: exactly-once v2, state in RocksDB and in a changelog topic, one thread.
 *
 * <p>Two programs: "statistics" (24 bytes a stream), and "lstm", whose state of 64 units lies in the same record.
 *
 * <p>Settings. The Processor API on bytes: no serde but the identity. A record cache of 256 MB in front of the store, so
 * that a stream goes to RocksDB and to the changelog once a commit and not once a reading. A commit a second: the
 * default of 100 ms empties that cache ten times as often. Fetches of up to 16 MB, polls of up to 10,000 records (1,000
 * by default), a buffer of as many a partition; batches of 1 MB, lz4, lingering.
 */
public final class WithKafkaStreams {
    private static final String STORE = "state";

    public static void main(String[] arguments) throws Exception {
        Job job = Job.of(arguments);
        Account account = new Account(job.readings());
        Supplier<Judge> judge = System.getProperty("peer").equals("lstm")
                ? () -> new LstmJudge(job)
                : StatisticsJudge::new;
        KafkaStreams streams = new KafkaStreams(topology(job, account, judge), settings(job));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        account.await();
        streams.close(Duration.ofSeconds(60)); // commits what is open
        account.close();
    }

    private static Topology topology(Job job, Account account, Supplier<Judge> judge) {
        ProcessorSupplier<byte[], byte[], byte[], byte[]> judging = () -> new Judging(account, judge.get());
        return new Topology()
                .addSource("readings", job.topic())
                .addProcessor("judge", judging, "readings")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                        Stores.persistentKeyValueStore(STORE), Serdes.Bytes(), Serdes.ByteArray())
                                .withCachingEnabled()
                                .withLoggingEnabled(Map.of()),
                        "judge")
                .addSink("anomalies", job.anomalies(), "judge");
    }

    private static Properties settings(Job job) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, job.group());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.servers());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, job.folder().toString());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_BYTES_CONFIG), 16 << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }

    /** What is remembered of the stream at hand, and how a value of it is judged. */
    private interface Judge {
        int bytes();

        void clear();

        void load(ByteBuffer from);

        /** The value's score. */
        double judge(double value);

        void store(ByteBuffer to);
    }

    private static final class StatisticsJudge implements Judge {
        private final Statistics statistics = new Statistics();

        @Override
        public int bytes() {
            return Statistics.BYTES;
        }

        @Override
        public void clear() {
            statistics.clear();
        }

        @Override
        public void load(ByteBuffer from) {
            statistics.load(from);
        }

        @Override
        public double judge(double value) {
            return statistics.judge(value);
        }

        @Override
        public void store(ByteBuffer to) {
            statistics.store(to);
        }
    }

    /** The same rule, on how far the value is from what the LSTM expected. */
    private static final class LstmJudge implements Judge {
        private final Statistics statistics = new Statistics();
        private final Lstm lstm;

        LstmJudge(Job job) {
            try {
                lstm = new Lstm(job.weights());
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        @Override
        public int bytes() {
            return Statistics.BYTES + Lstm.BYTES;
        }

        @Override
        public void clear() {
            statistics.clear();
            lstm.clear();
        }

        @Override
        public void load(ByteBuffer from) {
            statistics.load(from);
            lstm.load(from);
        }

        @Override
        public double judge(double value) {
            double score = statistics.judge(value - lstm.expected());
            lstm.step((float) value);
            return score;
        }

        @Override
        public void store(ByteBuffer to) {
            statistics.store(to);
            lstm.store(to);
        }
    }

    private static final class Judging implements Processor<byte[], byte[], byte[], byte[]> {
        private final Account account;
        private final Judge judge;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<Bytes, byte[]> states;

        Judging(Account account, Judge judge) {
            this.account = account;
            this.judge = judge;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            states = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            Reading reading = Reading.of(record.value());
            Bytes stream = Bytes.wrap(record.key());
            byte[] before = states.get(stream);
            if (before == null) {
                judge.clear();
            } else {
                judge.load(ByteBuffer.wrap(before));
            }
            double score = judge.judge(reading.value());
            byte[] after = new byte[judge.bytes()]; // not the same array: the cache holds on to it
            judge.store(ByteBuffer.wrap(after));
            states.put(stream, after);
            boolean anomalous = Statistics.anomalous(score);
            if (anomalous) {
                byte[] found = reading.anomaly(new String(record.key(), StandardCharsets.UTF_8), score);
                context.forward(record.withValue(found));
            }
            account.judged(anomalous);
        }
    }
}
