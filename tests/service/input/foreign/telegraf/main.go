// Bytes as the serializers of Telegraf write them: go mod init foreign && go get github.com/influxdata/telegraf@v1.34.0 && go run .
package main

import (
	"os"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/metric"
	"github.com/influxdata/telegraf/plugins/serializers/influx"
	tjson "github.com/influxdata/telegraf/plugins/serializers/json"
)

func main() {
	at := time.UnixMilli(1767571200000).UTC()
	one := metric.New("opcua", map[string]string{"host": "h1", "id": "p 7"}, map[string]interface{}{"temp": 61.0, "press": 4.1, "state": "RUN", "on": true, "count": int64(3)}, at)
	two := metric.New("opcua", map[string]string{"host": "h1", "id": "p8"}, map[string]interface{}{"temp": 20.5, "press": 1.2}, at.Add(time.Second))
	i := &influx.Serializer{SortFields: true}
	must(i.Init())
	b, err := i.SerializeBatch([]telegraf.Metric{one, two})
	must(err)
	must(os.WriteFile("../telegraf-influx.bin", b, 0o644))
	j := &tjson.Serializer{}
	must(j.Init())
	b, err = j.Serialize(one)
	must(err)
	must(os.WriteFile("../telegraf-json.bin", b, 0o644))
	b, err = j.SerializeBatch([]telegraf.Metric{one, two})
	must(err)
	must(os.WriteFile("../telegraf-json-batch.bin", b, 0o644))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
