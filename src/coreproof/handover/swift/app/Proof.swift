// Proof: every sample on every processor, compared with what coreproof answered, and written down for it.

import Foundation
import Observation
import UIKit

@MainActor @Observable
final class Proof {
    private(set) var results: [ProcessorResult] = []
    private(set) var cuts: [Double] = []
    private(set) var running = false
    private(set) var progress = 0.0
    private(set) var problems: [String] = []
    private(set) var exported: URL?

    func run(_ plan: Plan) async {
        guard !running else { return }
        (running, progress, problems, exported, results, cuts) = (true, 0, [], nil, [], [])
        UIApplication.shared.isIdleTimerDisabled = true
        defer {
            running = false
            UIApplication.shared.isIdleTimerDisabled = false
        }
        await measureCuts(plan)
        let share = 1 / Double(Processor.allCases.count * max(plan.samples.count, 1))
        for (position, processor) in Processor.allCases.enumerated() {
            let before = position * plan.samples.count
            do {
                let result = try await plan.examine(on: processor) { [weak self] done in
                    await self?.tell(Double(before + done) * share)
                }
                results.append(result)
            } catch {
                problems.append("\(processor.rawValue): \(error.localizedDescription)")
            }
        }
        do { exported = try write(plan) } catch { problems.append(error.localizedDescription) }
    }

    private func tell(_ done: Double) {
        progress = done
    }

    private func measureCuts(_ plan: Plan) async {
        guard plan.picture != nil else { return }
        do {
            let predictor = try await Predictor(plan, .cpuOnly)
            for sample in plan.samples {
                if let cut = try await predictor.cut(sample) { cuts.append(cut) }
            }
        } catch {
            problems.append(error.localizedDescription)
        }
    }

    private func write(_ plan: Plan) throws -> URL {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("device.json")
        try Export(plan, results, .here).document().write(to: url, options: .atomic)
        return url
    }
}
