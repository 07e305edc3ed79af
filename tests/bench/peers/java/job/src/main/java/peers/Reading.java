package peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;

/** One message's value, read with Jackson's streaming parser: no tree, no reflection. */
public record Reading(long timestamp, double value) {
    private static final JsonFactory JSON =
            JsonFactory.builder().enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER).build();

    public static Reading of(byte[] json) {
        long timestamp = 0;
        double value = Double.NaN;
        try (JsonParser parser = JSON.createParser(json)) {
            parser.nextToken();
            String field;
            while ((field = parser.nextFieldName()) != null) {
                JsonToken token = parser.nextToken();
                if (field.equals("timestamp")) {
                    timestamp = parser.getLongValue();
                } else if (field.equals("value")) {
                    value = parser.getDoubleValue();
                } else if (token.isStructStart()) {
                    parser.skipChildren();
                }
            }
        } catch (IOException error) {
            throw new UncheckedIOException(new String(json, StandardCharsets.UTF_8), error);
        }
        return new Reading(timestamp, value);
    }

    /** The value of the message that tells of this reading. */
    public byte[] anomaly(String stream, double score) {
        return ("{\"stream\":\"" + stream + "\",\"timestamp\":" + timestamp + ",\"value\":" + value + ",\"score\":" + score
                        + "}")
                .getBytes(StandardCharsets.UTF_8);
    }
}
