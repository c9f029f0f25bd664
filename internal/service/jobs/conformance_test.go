package jobs_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/service/jobstest"
)

func TestConformance(t *testing.T) { jobstest.Run(t) }
