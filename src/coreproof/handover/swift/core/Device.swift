// Device: what the proof ran on, and its results as what is exported.

import Foundation
#if canImport(UIKit)
import UIKit
#endif

extension Export {
    init(_ plan: Plan, _ results: [ProcessorResult], _ device: Device) {
        self.init(model: plan.model, fingerprint: plan.fingerprint, labels: plan.labels, device: device,
                  runs: results.map { result in
                      let answered = result.outcomes.filter { !$0.scores.isEmpty }.map { ($0.sample, $0.scores) }
                      return Run(processor: result.processor, milliseconds: result.milliseconds,
                                 scores: Dictionary(uniqueKeysWithValues: answered))
                  })
    }
}

extension Export.Device {
    @MainActor static var here: Export.Device {
        #if canImport(UIKit)
        let device = UIDevice.current
        return .init(name: device.model, machine: machine, system: "\(device.systemName) \(device.systemVersion)")
        #else
        return .init(name: "Mac", machine: machine, system: ProcessInfo.processInfo.operatingSystemVersionString)
        #endif
    }

    /// "iPhone15,2": which chip it was matters more than the owner's name for it.
    private static var machine: String {
        if let simulated = ProcessInfo.processInfo.environment["SIMULATOR_MODEL_IDENTIFIER"] { return "\(simulated) (simulator)" }
        var information = utsname()
        uname(&information)
        return withUnsafeBytes(of: &information.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
